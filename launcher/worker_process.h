// One worker: a child process in a session of its own, its output in two pipes.
//
// Not thread-safe, and spawn() must be called from the thread that lives as long as ddprun: the kernel kills
// the worker when that thread ends (PDEATHSIG).
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <csignal>
#include <string>
#include <vector>

#include "libddp/core/fd.h"

namespace ddp::launcher {

struct WorkerCommand {
  std::string file;                      ///< what is executed
  std::vector<std::string> arguments;    ///< program and arguments
  std::vector<std::string> environment;  ///< NAME=value
  bool reads_stdin = false;              ///< false: /dev/null
  int inherited_fd = -1;                 ///< stays open in the worker under the same number; -1: none
  sigset_t signal_mask{};                ///< of the worker
  rlimit descriptors{};                  ///< its limit of open files
};

struct WorkerProcess {
  pid_t pid = -1;           ///< also the id of its process group and session
  FileDescriptor out, err;  ///< read ends, non-blocking
  int start_error = 0;      ///< errno of exec; then pid is already reaped and the pipes are closed
};

/// Forks and executes. Throws Error when the system refuses pipes or processes.
[[nodiscard]] WorkerProcess spawn(const WorkerCommand& command);

}  // namespace ddp::launcher
