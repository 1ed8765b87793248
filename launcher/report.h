// What ddprun tells a person about a failure. Pure.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace ddp::launcher {

struct Failure {
  int rank = 0;
  pid_t pid = -1;
  int wait_status = 0;  ///< as of waitpid()
  double seconds = 0;   ///< from the worker's start
  bool out_of_memory = false;
  std::vector<std::string> stderr_tail;
};

/// "SIGKILL"; "signal 64" for those without a name.
[[nodiscard]] std::string signal_name(int signal);
/// What a shell would show: the exit code, or 128 + signal.
[[nodiscard]] int exit_code(int wait_status);
/// Whether the worker says that another attempt would not help (ddp::kExitDoNotRestart).
[[nodiscard]] bool forbids_restart(int wait_status);
/// "exit code 3" or "killed by SIGSEGV (core dumped)".
[[nodiscard]] std::string describe_status(int wait_status);
/// Several lines, each ending in a newline.
[[nodiscard]] std::string describe(const Failure& failure, const std::string& host);
/// Why exec failed and what to do.
[[nodiscard]] std::string describe_start_error(const std::string& program, int error);

}  // namespace ddp::launcher
