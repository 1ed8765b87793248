#include "launcher/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include <ddp/deadline.h>
#include <ddp/error.h>

namespace ddp::launcher {
namespace {

struct Pipe {
  FileDescriptor read, write;
};

Error refused(const std::string& what) {
  const int error = errno;
  return Error(errno_message(what, error) +
               (error == EMFILE ? ". ddprun needs four descriptors a worker: raise the limit (ulimit -n)"
                : error == EAGAIN
                    ? ". The limit of processes is reached (ulimit -u, or pids.max of the container)"
                    : ""));
}

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw refused("cannot make a pipe for a worker");
  return {FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const auto& text : strings) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

/// What happens in the child. Only system calls: the parent's heap may not be touched after fork.
struct Child {
  const char* file;
  char** arguments;
  char** environment;
  int in, out, err, error_pipe, inherited;
  const sigset_t* mask;
  const rlimit* descriptors;
  pid_t parent;

  [[noreturn]] void run() const {
    ::setsid();
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // ddprun may have died before prctl took effect; then nobody would kill us.
    if (::getppid() != parent) ::_exit(127);
    if (in >= 0) ::dup2(in, STDIN_FILENO);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
    if (inherited >= 0) ::fcntl(inherited, F_SETFD, 0);
    ::signal(SIGPIPE, SIG_DFL);
    ::signal(SIGXFSZ, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, mask, nullptr);
    ::setrlimit(RLIMIT_NOFILE, descriptors);
    ::execve(file, arguments, environment);
    const int error = errno;
    [[maybe_unused]] const auto written = ::write(error_pipe, &error, sizeof(error));
    ::_exit(error == ENOENT ? 127 : 126);
  }
};

/// From fork to exec it takes milliseconds, seconds when the program lies on a slow file system.
constexpr std::chrono::minutes kStartTime{1};

/// The error pipe closes by itself when exec succeeds. ETIMEDOUT: the worker did not come that far.
int read_start_error(int fd) {
  const Deadline deadline = Deadline::in(kStartTime);
  pollfd entry{fd, POLLIN, 0};
  int ready = 0;
  do ready = ::poll(&entry, 1, deadline.remaining_ms());
  while (ready < 0 && errno == EINTR);
  if (ready == 0) return ETIMEDOUT;
  int error = 0;
  ssize_t n = 0;
  do n = ::read(fd, &error, sizeof(error));
  while (n < 0 && errno == EINTR);
  return n == sizeof(error) ? error : 0;
}

}  // namespace

WorkerProcess spawn(const WorkerCommand& command) {
  auto arguments = pointers(command.arguments);
  auto environment = pointers(command.environment);
  Pipe out = make_pipe(), err = make_pipe(), error = make_pipe();
  FileDescriptor null;
  if (!command.reads_stdin) {
    null = FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!null) throw refused("cannot open /dev/null for a worker");
  }
  const Child child{command.file.c_str(), arguments.data(),     environment.data(), null.get(),
                    out.write.get(),      err.write.get(),      error.write.get(),  command.inherited_fd,
                    &command.signal_mask, &command.descriptors, ::getpid()};
  const pid_t pid = ::fork();
  if (pid < 0) throw refused("cannot start a worker process");
  if (pid == 0) child.run();

  error.write.reset();
  WorkerProcess worker{pid, std::move(out.read), std::move(err.read), read_start_error(error.read.get())};
  if (worker.start_error != 0) {
    ::kill(pid, SIGKILL);  // it may be stopped
    ::waitpid(pid, nullptr, 0);
    return WorkerProcess{-1, {}, {}, worker.start_error};
  }
  ::fcntl(worker.out.get(), F_SETFL, O_NONBLOCK);
  ::fcntl(worker.err.get(), F_SETFL, O_NONBLOCK);
  return worker;
}

}  // namespace ddp::launcher
