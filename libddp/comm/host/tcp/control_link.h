// The control connection to one peer: frames out, frames in.
//
// send(), flush() and close_gently() may be called from any thread; the reading side belongs to the thread that runs
// operations. Nothing here blocks. Errors of the connection do not throw: closed() and close_reason() tell.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ddp/error.h>

#include "libddp/comm/exchange/frame.h"
#include "libddp/core/fd.h"

namespace ddp::host {

class ControlLink {
 public:
  explicit ControlLink(FileDescriptor fd);

  /// Sends at once what fits into the socket and keeps the rest for flush().
  void send(const wire::Frame& frame, std::span<const std::byte> payload);
  /// Whether everything has been handed to the kernel, or the connection is broken and takes nothing more.
  bool flush();

  /// Takes in what has arrived; whether that was anything. Throws Error("sent ...") for bytes that are not
  /// the protocol.
  bool read();
  [[nodiscard]] std::deque<Heard>& inbox() { return inbox_; }
  [[nodiscard]] const std::optional<ToldFailure>& failure() const { return failure_; }
  /// The last kWaiting frame.
  [[nodiscard]] const std::optional<wire::Frame>& waiting() const { return waiting_; }
  /// The peer said that it leaves.
  [[nodiscard]] bool left() const { return left_; }
  [[nodiscard]] bool closed() const { return closed_; }
  [[nodiscard]] std::string close_reason() const;
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  void broken(int error);
  void parse();
  void accept(const wire::Frame& frame, const std::byte* payload);

  FileDescriptor fd_;
  std::mutex out_mutex_;
  std::vector<std::byte> out_;  // what did not fit into the socket
  std::atomic<int> error_{0};

  std::vector<std::byte> in_;
  std::size_t in_used_ = 0;
  std::deque<Heard> inbox_;
  std::optional<ToldFailure> failure_;
  std::optional<wire::Frame> waiting_;
  bool left_ = false;
  bool closed_ = false;
};

}  // namespace ddp::host
