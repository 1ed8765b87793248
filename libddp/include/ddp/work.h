// The handle of a collective. A blocking call returns a finished one; an asynchronous one finishes when every
// rank has come.
//
//   ddp::Work work = comm.all_reduce(bucket, {.async_op = true});
//   ... backward goes on ...
//   work.wait();            // throws what the operation threw
//
// A Work may be copied (copies share the operation) and waited on from any thread. Dropping it does not
// cancel the operation; its buffers must stay alive until it is done.
#pragma once

#include <exception>
#include <memory>

#include <ddp/deadline.h>

namespace ddp {

class Work {
 public:
  /// A finished, successful operation: what blocking calls return. Costs no allocation.
  Work() = default;

  /// True once the operation has ended, well or not. Never blocks.
  [[nodiscard]] bool done() const;
  /// Waits until the operation ends; rethrows its error. The operation's own timeout bounds this wait.
  void wait() const;
  /// As wait(), but gives up at `deadline` with TimeoutError; the operation itself goes on.
  void wait(Deadline deadline) const;
  /// The error the operation ended with, or null. Never blocks.
  [[nodiscard]] std::exception_ptr error() const;

  /// Shared with the backend that completes it (libddp/comm/work_state.h).
  struct State;
  explicit Work(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

}  // namespace ddp
