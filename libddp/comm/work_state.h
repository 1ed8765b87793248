// The shared state behind an asynchronous Work: completed once, by the thread that ran the operation.
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>

#include <ddp/work.h>

namespace ddp {

struct Work::State {
  std::mutex mutex;
  std::condition_variable changed;
  bool finished = false;
  std::exception_ptr error;

  /// Any thread; the first call wins.
  void complete(std::exception_ptr failure = nullptr) {
    {
      const std::scoped_lock lock(mutex);
      if (finished) return;
      finished = true;
      error = std::move(failure);
    }
    changed.notify_all();
  }
};

}  // namespace ddp
