#include "launcher/report.h"

#include <string.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include <ddp/exit_code.h>

#include "libddp/core/fd.h"

namespace ddp::launcher {

std::string signal_name(int signal) {
  const char* name = ::sigabbrev_np(signal);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(signal);
}

int exit_code(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

bool forbids_restart(int wait_status) {
  return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == kExitDoNotRestart;
}

std::string describe_status(int wait_status) {
  if (!WIFSIGNALED(wait_status)) return "exit code " + std::to_string(WEXITSTATUS(wait_status));
  return "killed by " + signal_name(WTERMSIG(wait_status)) + (WCOREDUMP(wait_status) ? " (core dumped)" : "");
}

std::string describe(const Failure& failure, const std::string& host) {
  char seconds[32];
  std::snprintf(seconds, sizeof(seconds), "%.1f", failure.seconds);
  std::string text = "ddprun: rank " + std::to_string(failure.rank) +
                     " failed first: " + describe_status(failure.wait_status) + " (pid " +
                     std::to_string(failure.pid) + ", host " + host + ", " + seconds +
                     " s after its start)\n";
  if (failure.out_of_memory)
    text +=
        "ddprun: the kernel killed a process of this container for memory meanwhile (memory.events): give it "
        "more memory or use less\n";
  if (!failure.stderr_tail.empty()) text += "ddprun: last lines of its stderr:\n";
  for (const auto& line : failure.stderr_tail) text += "ddprun:   " + line + "\n";
  if (forbids_restart(failure.wait_status))
    text += "ddprun: by that exit code it says that a restart would not help, so there is none\n";
  return text;
}

std::string describe_start_error(const std::string& program, int error) {
  std::string text = errno_message("cannot start '" + program + "'", error);
  if (error == ENOENT)
    text += program.find('/') == std::string::npos
                ? ". It is not on PATH; a program in this folder is './" + program + "'."
                : ". Is the path right on this node, and the interpreter its first line names?";
  if (error == ETIMEDOUT)
    text +=
        ". A minute after its fork the process had not become the program: was it stopped, or does the file "
        "system hang?";
  if (error == ENOEXEC)
    text += ". It is neither a program for this machine nor a script whose first line names its interpreter.";
  if (error == EACCES)
    text += program.ends_with(".py") ? ". A Python script is started as: ddprun ... python3 " + program
                                     : ". Is it an executable file (chmod +x)?";
  return text;
}

}  // namespace ddp::launcher
