// A MemoryStore that a forked child reaches over a socket pair.
//
//   PipeStoreServer server(memory);                 // before fork(); serve() after it, in the parent
//   PipeStore store(server.child_end());            // in the child
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "libddp/core/fd.h"
#include "tests/comm/memory_store.h"

namespace ddp::testing {

/// Whole length-prefixed strings over a blocking stream socket.
inline bool write_text(int fd, const std::string& text) {
  const std::uint64_t size = text.size();
  std::string bytes(reinterpret_cast<const char*>(&size), sizeof size);
  bytes += text;
  return ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}
inline bool read_text(int fd, std::string& text) {
  std::uint64_t size = 0;
  if (::recv(fd, &size, sizeof size, MSG_WAITALL) != sizeof size) return false;
  text.resize(size);
  return size == 0 || ::recv(fd, text.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

/// Only what forming a group needs: set, get, try_get.
class PipeStore final : public Store {
 public:
  explicit PipeStore(int fd) : fd_(fd) {}
  void set(std::string_view key, std::string_view value, Deadline) override { (void)ask("set", key, value); }
  std::string get(std::string_view key, Deadline) override { return ask("get", key, ""); }
  std::optional<std::string> try_get(std::string_view key, Deadline) override { return ask("get", key, ""); }
  void wait(std::string_view key, Deadline) override { (void)ask("get", key, ""); }
  std::int64_t add(std::string_view, std::int64_t, Deadline) override { throw Error("not here"); }
  std::optional<std::string> compare_and_set(std::string_view, std::optional<std::string_view>,
                                             std::string_view, Deadline) override {
    throw Error("not here");
  }
  std::uint64_t append(std::string_view, std::string_view, Deadline) override { throw Error("not here"); }
  std::string watch(std::string_view, std::uint64_t, Deadline) override { throw Error("not here"); }
  bool erase(std::string_view, Deadline) override { throw Error("not here"); }

 private:
  std::string ask(const std::string& verb, std::string_view key, std::string_view value) {
    std::string answer;
    if (!write_text(fd_, verb) || !write_text(fd_, std::string(key)) ||
        !write_text(fd_, std::string(value)) || !read_text(fd_, answer))
      throw RendezvousError("the parent is gone");
    return answer;
  }
  int fd_;
};

class PipeStoreServer {
 public:
  explicit PipeStoreServer(Store& store) : store_(store) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) throw Error("no socket pair");
    parent_ = FileDescriptor(ends[0]);
    child_ = FileDescriptor(ends[1]);
  }
  ~PipeStoreServer() {
    ::shutdown(parent_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] int child_end() const { return child_.get(); }
  /// In the parent, after the fork.
  void serve() {
    child_.reset();
    thread_ = std::thread([this] {
      std::string verb;
      std::string key;
      std::string value;
      const Deadline deadline = Deadline::in(std::chrono::seconds(30));
      while (read_text(parent_.get(), verb) && read_text(parent_.get(), key) &&
             read_text(parent_.get(), value)) {
        try {
          if (verb == "set")
            store_.set(key, value, deadline);
          else
            value = store_.get(key, deadline);
        } catch (const Error&) {
          return;
        }
        if (!write_text(parent_.get(), value)) return;
      }
    });
  }

 private:
  Store& store_;
  FileDescriptor parent_;
  FileDescriptor child_;
  std::thread thread_;
};

}  // namespace ddp::testing
