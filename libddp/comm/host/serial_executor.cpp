#include "libddp/comm/host/serial_executor.h"

#include <utility>

namespace ddp::host {

void SerialExecutor::post(std::function<void()> task, std::function<void()> done) {
  pending_.fetch_add(1, std::memory_order_relaxed);
  {
    const std::scoped_lock lock(mutex_);
    tasks_.push_back({std::move(task), std::move(done)});
    if (!thread_.joinable()) thread_ = std::thread([this] { loop(); });
  }
  changed_.notify_one();
}

void SerialExecutor::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void SerialExecutor::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task.run();
    pending_.fetch_sub(1, std::memory_order_release);
    task.done();
    lock.lock();
  }
}

}  // namespace ddp::host
