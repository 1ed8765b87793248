// Runs tasks one after the other on a thread of its own, which is started by the first task.
//
// post, idle: one thread (the communicator's owner); the destructor runs what is queued, then joins.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "libddp/core/fork_guard.h"

namespace ddp::comm {

class SerialExecutor {
 public:
  SerialExecutor() = default;
  ~SerialExecutor() { stop(); }

  /// Runs `task`, then counts it as over, then runs `done` (which tells the world).
  void post(std::function<void()> task, std::function<void()> done);
  /// Nothing is queued or running.
  [[nodiscard]] bool idle() const { return pending_.load(std::memory_order_acquire) == 0; }
  /// Runs what is queued and joins (in a forked child, where the thread is not: nothing); post() must not be called afterwards.
  void stop();

 private:
  void loop();

  struct Task {
    std::function<void()> run;
    std::function<void()> done;
  };
  struct Queue {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Task> tasks;
    bool stopping = false;
  };
  std::atomic<std::size_t> pending_{0};
  std::unique_ptr<Queue> queue_ = std::make_unique<Queue>();
  std::thread thread_;
  ForkGuard guard_;
};

}  // namespace ddp::comm

namespace ddp::host {
using namespace comm;
}  // namespace ddp::host
