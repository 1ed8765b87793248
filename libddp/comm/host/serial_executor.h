// Runs tasks one after the other on a thread of its own, which is started by the first task.
//
// post, idle: one thread (the communicator's owner); the destructor runs what is queued, then joins.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace ddp::host {

class SerialExecutor {
 public:
  SerialExecutor() = default;
  ~SerialExecutor() { stop(); }

  /// Runs `task`, then counts it as over, then runs `done` (which tells the world).
  void post(std::function<void()> task, std::function<void()> done);
  /// Nothing is queued or running.
  [[nodiscard]] bool idle() const { return pending_.load(std::memory_order_acquire) == 0; }
  /// Runs what is queued and joins; post() must not be called afterwards.
  void stop();

 private:
  void loop();

  std::atomic<std::size_t> pending_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  struct Task {
    std::function<void()> run;
    std::function<void()> done;
  };
  std::deque<Task> tasks_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ddp::host
