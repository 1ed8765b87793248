#include "launcher/signals.h"

#include <pthread.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include <ddp/error.h>

namespace ddp::launcher {
namespace {

/// nohup ignores SIGHUP, and a shell that runs ddprun in the background SIGINT, so that it outlives them.
bool meant_to_be_ignored(int signal) {
  struct sigaction action {};
  ::sigaction(signal, nullptr, &action);
  return (signal == SIGHUP || signal == SIGINT || signal == SIGQUIT) && action.sa_handler == SIG_IGN;
}

}  // namespace

Signals::Signals() {
  // Whoever started ddprun may ignore it; then the kernel would reap workers before ddprun sees how they ended.
  ::signal(SIGCHLD, SIG_DFL);
  sigset_t handled;
  sigemptyset(&handled);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2})
    if (!meant_to_be_ignored(signal)) sigaddset(&handled, signal);
  ::pthread_sigmask(SIG_BLOCK, &handled, &original_);
  // Writes tell by errno what these would kill ddprun for: a reader that left, a file that grew too large (ulimit -f).
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  fd_ = FileDescriptor(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd_) throw Error(errno_message("cannot listen for signals", errno));
}

std::vector<int> Signals::take() {
  std::vector<int> arrived;
  signalfd_siginfo info{};
  while (::read(fd_.get(), &info, sizeof info) == sizeof info)
    arrived.push_back(static_cast<int>(info.ssi_signo));
  return arrived;
}

bool ends_the_job(int signal) {
  return signal == SIGTERM || signal == SIGINT || signal == SIGQUIT || signal == SIGHUP;
}

}  // namespace ddp::launcher
