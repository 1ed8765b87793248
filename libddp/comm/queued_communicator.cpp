#include "libddp/comm/queued_communicator.h"

#include <ddp/error.h>

#include "libddp/comm/work_state.h"

namespace ddp::comm {

bool QueuedCommunicator::close() {
  if (guard_.is_forked()) return false;
  bool busy = !collective_executor_.idle();
  for (const auto& [lane, executor] : lane_executors_) busy = busy || !executor.idle();
  if (busy)
    fail(ErrorKind::kAborted, describe(self()) + " closed its communicator while operations were in flight");
  collective_executor_.stop();
  lane_executors_.clear();
  return true;
}

/// A child that took part would speak with its parent's voice.
void QueuedCommunicator::require_own_process() const {
  if (guard_.is_forked())
    throw Error(
        describe(self()) +
        ": this process was forked from that rank and cannot use its communicator; start ranks with a "
        "launcher, and fork before ddp::init()");
}

void QueuedCommunicator::require_peer(int rank) const {
  if (rank < 0 || rank >= size())
    throw Error("check_peer: " + std::to_string(rank) + " is not a rank of this communicator of " +
                std::to_string(size()));
}

Work QueuedCommunicator::submit(Operation operation, bool async) {
  require_own_process();
  failure_.check();
  check_health();
  operation.sequence = next_sequence(operation);
  SerialExecutor& executor = executor_of(operation);
  if (!async && executor.idle()) {
    execute(operation, true);
    return {};
  }
  auto state = std::make_shared<Work::State>();
  auto failure = std::make_shared<std::exception_ptr>();
  executor.post(
      [this, operation = std::move(operation), failure] {
        try {
          execute(operation, false);
        } catch (...) {
          *failure = std::current_exception();
        }
      },
      [state, failure] { state->complete(*failure); });
  Work work(std::move(state));
  if (!async) work.wait();
  return work;
}

std::uint64_t QueuedCommunicator::next_sequence(const Operation& operation) {
  return is_point_to_point(operation.kind) ? ++messages_[{operation.kind, operation.peer}] : ++collectives_;
}

SerialExecutor& QueuedCommunicator::executor_of(const Operation& operation) {
  if (!is_point_to_point(operation.kind)) return collective_executor_;
  return lane_executors_[{operation.kind, operation.peer}];
}

void QueuedCommunicator::execute(const Operation& operation, bool spin) {
  failure_.check();
  guarded([&] { dispatch(operation, spin); });
}

void QueuedCommunicator::abort(const std::string& reason) {
  require_own_process();
  fail(ErrorKind::kAborted, describe(self()) + " aborted: " + reason);
}

}  // namespace ddp::comm
