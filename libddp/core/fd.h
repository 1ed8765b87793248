// RAII for file descriptors and memory mappings. Movable, not copyable; owned by one thread at a time.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

namespace ddp {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor() { reset(); }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  /// Closes; errors of close() are of no use here (files that matter are fsynced and closed by hand).
  void reset() noexcept;

 private:
  int fd_ = -1;
};

class Mapping {
 public:
  Mapping() = default;
  /// Takes over [data, data + bytes) from mmap.
  Mapping(void* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping() { reset(); }

  /// Maps `bytes` of `fd` shared and readable, writable if asked. Throws Error with errno's text and `what`.
  [[nodiscard]] static Mapping shared(int fd, std::size_t bytes, bool writable, const std::string& what);

  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(data_); }
  [[nodiscard]] std::size_t size() const { return bytes_; }
  void reset() noexcept;

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// "cannot open x: No such file or directory": `what` plus the text of `error_number`.
[[nodiscard]] std::string errno_message(const std::string& what, int error_number);

/// This machine's name as shown in errors and log lines.
[[nodiscard]] std::string host_name();

}  // namespace ddp
