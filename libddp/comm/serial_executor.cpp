#include "libddp/comm/serial_executor.h"

#include <utility>

namespace ddp::comm {

void SerialExecutor::post(std::function<void()> task, std::function<void()> done) {
  pending_.fetch_add(1, std::memory_order_relaxed);
  {
    const std::scoped_lock lock(queue_->mutex);
    queue_->tasks.push_back({std::move(task), std::move(done)});
    if (!thread_.joinable()) thread_ = std::thread([this] { loop(); });
  }
  queue_->changed.notify_one();
}

void SerialExecutor::stop() {
  if (guard_.is_forked()) {
    if (thread_.joinable()) thread_.detach();
    (void)queue_.release();  // it counts the thread as waiting, so it cannot be destroyed
    return;
  }
  {
    const std::scoped_lock lock(queue_->mutex);
    queue_->stopping = true;
  }
  queue_->changed.notify_one();
  if (thread_.joinable()) thread_.join();
}

void SerialExecutor::loop() {
  Queue& queue = *queue_;
  std::unique_lock lock(queue.mutex);
  for (;;) {
    queue.changed.wait(lock, [&] { return queue.stopping || !queue.tasks.empty(); });
    if (queue.tasks.empty()) return;
    const Task task = std::move(queue.tasks.front());
    queue.tasks.pop_front();
    lock.unlock();
    task.run();
    pending_.fetch_sub(1, std::memory_order_release);
    task.done();
    lock.lock();
  }
}

}  // namespace ddp::comm
