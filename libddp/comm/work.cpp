#include <ddp/work.h>

#include <ddp/error.h>

#include "libddp/comm/work_state.h"

namespace ddp {

bool Work::done() const {
  if (!state_) return true;
  const std::scoped_lock lock(state_->mutex);
  return state_->finished;
}

void Work::wait() const {
  if (!state_) return;
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [this] { return state_->finished; });
  if (state_->error) std::rethrow_exception(state_->error);
}

void Work::wait(Deadline deadline) const {
  if (!state_) return;
  std::unique_lock lock(state_->mutex);
  if (!state_->changed.wait_until(lock, deadline.at(), [this] { return state_->finished; }))
    throw TimeoutError("operation not finished within " + to_string(deadline.timeout()) + " of Work::wait");
  if (state_->error) std::rethrow_exception(state_->error);
}

std::exception_ptr Work::error() const {
  if (!state_) return nullptr;
  const std::scoped_lock lock(state_->mutex);
  return state_->error;
}

}  // namespace ddp
