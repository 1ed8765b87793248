// How a thread waits for MPI, which cannot wake it: at once again while bytes move, then giving way to other threads of
// this core, then asleep for longer and longer.
#pragma once

#include <sched.h>

#include <chrono>
#include <thread>

#include <ddp/deadline.h>

namespace ddp::mpi {

class Patience {
 public:
  void moved() { idle_ = false; }
  /// Nothing has moved. True when it is time to look around.
  bool wait() {
    const auto now = Clock::now();
    if (!idle_) {
      idle_ = true;
      since_ = looked_ = now;
    }
    const auto idle = now - since_;
    if (idle < kYield)
      ::sched_yield();
    else
      std::this_thread::sleep_for(idle < kShort ? std::chrono::microseconds(30)
                                                : std::chrono::microseconds(500));
    if (now - looked_ < kLookEvery) return false;
    looked_ = now;
    return true;
  }

 private:
  // A message within a host takes a microsecond, between hosts ten: a sleep would cost more than it saves.
  static constexpr std::chrono::microseconds kYield{200};
  static constexpr std::chrono::milliseconds kShort{20};
  static constexpr std::chrono::milliseconds kLookEvery{1};
  bool idle_ = false;
  Clock::time_point since_;
  Clock::time_point looked_;
};

}  // namespace ddp::mpi
