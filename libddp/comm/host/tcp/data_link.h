// One data connection to a peer: pieces out and pieces in, each in the order they were queued.
//
// One thread at a time. push() and pull() never block and do at most one system call that moves bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "libddp/comm/host/tcp/wire.h"
#include "libddp/core/fd.h"

namespace ddp::host {

/// A part of a buffer on its way; what the fields behind `bytes` mean is the business of the algorithm.
struct Part {
  std::byte* data =
      nullptr;  ///< null in a queue of receptions: the algorithm gives a place when its turn comes
  std::size_t bytes = 0;
  std::uint32_t step = 0;
  std::uint32_t share = 0;
  std::uint64_t chunk = 0;
  std::byte* slot = nullptr;  ///< scratch to give back when the part has been sent
};

/// How far one call got.
enum class Moved { kNothing, kSome, kWholePart, kClosed };

class DataLink {
 public:
  explicit DataLink(FileDescriptor fd) : fd_(std::move(fd)) {}

  void queue_send(const Part& part) { to_send_.push_back(part); }
  void queue_receive(const Part& part) { to_receive_.push_back(part); }
  [[nodiscard]] bool sending() const { return !to_send_.empty(); }
  [[nodiscard]] bool receiving() const { return !to_receive_.empty(); }
  [[nodiscard]] Part& next_receive() { return to_receive_.front(); }

  /// Sends of the first part; kWholePart: it is in `part` and off the queue.
  Moved push(Part& part);
  /// Receives of the first part, whose data must be set; kWholePart as above. Throws Error("sent ...") for
  /// bytes that are not the protocol.
  Moved pull(Part& part);
  /// Why kClosed: an errno, 0 for an orderly end.
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  Moved moved(ssize_t bytes, std::size_t& total);

  FileDescriptor fd_;
  std::deque<Part> to_send_;
  std::deque<Part> to_receive_;
  wire::Piece out_head_;
  wire::Piece in_head_;
  std::size_t sent_ = 0;      // of the first part, its head included
  std::size_t received_ = 0;  // likewise
  std::uint64_t sent_parts_ = 0;
  std::uint64_t received_parts_ = 0;
  int error_ = 0;
};

}  // namespace ddp::host
