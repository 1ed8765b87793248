#include "libddp/comm/failure.h"

#include <utility>

namespace ddp::comm {

bool Failure::record(ErrorKind kind, std::string text) {
  const std::scoped_lock lock(mutex_);
  if (recorded_.load(std::memory_order_relaxed)) return false;
  kind_ = kind;
  text_ = std::move(text);
  recorded_.store(true, std::memory_order_release);
  return true;
}

void Failure::raise() const {
  const std::scoped_lock lock(mutex_);
  throw_error(kind_, text_);
}

ErrorKind Failure::kind() const {
  const std::scoped_lock lock(mutex_);
  return kind_;
}

std::string Failure::text() const {
  const std::scoped_lock lock(mutex_);
  return text_;
}

}  // namespace ddp::comm
