// A rank in a process of its own, for tests that kill or stop it.
//
//   const ForkedRank victim(memory_store, [&](const std::shared_ptr<Store>& store) { ... what the child does ... });
//   victim.signal(SIGKILL);
//
// Make it before the test starts threads. The child is killed and reaped at the end whatever happens.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>

#include "tests/comm/pipe_store.h"

namespace ddp::testing {

class ForkedRank {
 public:
  /// The child reaches `store`, which must outlive this object, through a pipe, and ends when `body` returns or throws.
  ForkedRank(Store& store, const std::function<void(const std::shared_ptr<Store>&)>& body) : server_(store) {
    pid_ = ::fork();
    if (pid_ == 0) {
      try {
        body(std::make_shared<PipeStore>(server_.child_end()));
      } catch (...) {
      }
      ::_exit(0);
    }
    server_.serve();
  }
  ForkedRank(const ForkedRank&) = delete;
  ForkedRank& operator=(const ForkedRank&) = delete;
  ~ForkedRank() {
    ::kill(pid_, SIGKILL);
    (void)::waitpid(pid_, nullptr, 0);
  }
  void signal(int number) const { ::kill(pid_, number); }

 private:
  pid_t pid_ = -1;
  PipeStoreServer server_;
};

}  // namespace ddp::testing
