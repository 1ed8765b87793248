// The first failure of a communicator: whoever records one first decides what every later call of this process throws.
//
//   failure.record(ErrorKind::kPeerFailure, "rank 3 (node-b) closed its connection in all_reduce #17");
//   failure.check();          // throws it
//
// Any thread.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include <ddp/error.h>

namespace ddp::comm {

class Failure {
 public:
  /// Returns whether this was the first one.
  bool record(ErrorKind kind, std::string text);
  [[nodiscard]] bool recorded() const { return recorded_.load(std::memory_order_acquire); }
  /// Throws the recorded error, if there is one.
  void check() const {
    if (recorded()) raise();
  }
  [[noreturn]] void raise() const;
  [[nodiscard]] ErrorKind kind() const;
  [[nodiscard]] std::string text() const;

 private:
  std::atomic<bool> recorded_{false};
  mutable std::mutex mutex_;
  ErrorKind kind_ = ErrorKind::kError;
  std::string text_;
};

}  // namespace ddp::comm

namespace ddp::host {
using namespace comm;
}  // namespace ddp::host
