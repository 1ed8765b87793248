// The signals ddprun handles, as a descriptor that poll() can wait on. Made before any thread is started; one thread.
#pragma once

#include <csignal>
#include <vector>

#include "libddp/core/fd.h"

namespace ddp::launcher {

class Signals {
 public:
  /// Blocks SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 and SIGUSR2 for this thread and those it
  /// starts, but leaves SIGHUP, SIGINT and SIGQUIT alone where they are ignored (nohup); ignores SIGPIPE.
  Signals();
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// What has arrived, in order of arrival; never blocks.
  [[nodiscard]] std::vector<int> take();
  /// The mask workers get: the one ddprun was started with.
  [[nodiscard]] const sigset_t& original_mask() const { return original_; }

 private:
  FileDescriptor fd_;
  sigset_t original_{};
};

/// SIGTERM, SIGINT, SIGQUIT, SIGHUP: ddprun and its workers end.
[[nodiscard]] bool ends_the_job(int signal);

}  // namespace ddp::launcher
