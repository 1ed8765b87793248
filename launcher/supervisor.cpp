#include "launcher/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include <ddp/error.h>

#include "launcher/descendants.h"
#include "launcher/node.h"

namespace ddp::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Workers of a failed attempt have little to save: the checkpoint is what counts.
constexpr seconds kFailureGrace{5};
/// For what is left in pipes, and for a terminal that does not read.
constexpr seconds kFlushTime{5};

FileDescriptor open_log(const Options& options, const Attempt& attempt, int rank, const char* name) {
  if (options.log_dir.empty()) return {};
  const std::string folder =
      options.log_dir + "/attempt_" + std::to_string(attempt.number) + "/rank_" + std::to_string(rank);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::string path = folder + "/" + name;
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!fd) throw ConfigError(errno_message("--log-dir: cannot write " + path, errno));
  return fd;
}

}  // namespace

struct Supervisor::Worker {
  int rank = 0;
  WorkerProcess process;
  LineRelay out;
  LineRelay err;
  Clock::time_point started = Clock::now();
  std::optional<int> status;  ///< as of waitpid, once it has ended
};

Supervisor::Supervisor(const Options& options, const Environment& inherited, Signals& signals)
    : options_(options), inherited_(inherited), signals_(signals) {}

Supervisor::~Supervisor() = default;

Outcome Supervisor::run(const Attempt& attempt, int token_fd, int over_fd,
                        const std::function<void(const Failure&)>& failed) {
  workers_.clear();
  failure_.reset();
  kill_at_.reset();
  over_elsewhere_ = false;
  const auto oom_before = oom_kills();
  Outcome cannot_start;
  const bool started = start_all(attempt, token_fd, cannot_start);
  if (!started) stop_workers(SIGKILL, milliseconds(0));
  while (!all_ended()) step(over_fd, failed);
  kill_strays();
  for (const Deadline deadline = Deadline::in(kFlushTime); output_open() && !deadline.passed();)
    step(-1, failed);
  for (auto& worker : workers_) {
    worker->out.finish();
    worker->err.finish();
  }
  if (!started) return cannot_start;
  if (failure_) {
    const auto& root = *std::find_if(workers_.begin(), workers_.end(),
                                     [&](const auto& w) { return w->rank == failure_->rank; });
    failure_->stderr_tail.assign(root->err.tail().begin(), root->err.tail().end());
    failure_->out_of_memory = oom_before && oom_kills().value_or(*oom_before) > *oom_before;
  }
  return outcome();
}

bool Supervisor::start_all(const Attempt& attempt, int token_fd, Outcome& outcome) {
  for (int local = 0; local < options_.nproc_per_node; ++local) {
    const int rank = options_.first_rank() + local;
    const WorkerCommand command{options_.program,
                                worker_environment(inherited_, options_, attempt, local).strings(),
                                local == 0, token_fd, signals_.original_mask()};
    const std::string prefix = options_.no_prefix ? "" : "[" + std::to_string(rank) + "] ";
    WorkerProcess process = spawn(command);
    if (process.start_error != 0) {
      err_.push("ddprun: " + describe_start_error(options_.program[0], process.start_error) + "\n");
      outcome = {Outcome::kCannotStart, process.start_error == ENOENT ? 127 : 126, {}};
      return false;
    }
    workers_.push_back(std::make_unique<Worker>(Worker{
        rank, std::move(process), LineRelay(prefix, out_, open_log(options_, attempt, rank, "stdout.log")),
        LineRelay(prefix, err_, open_log(options_, attempt, rank, "stderr.log"))}));
  }
  return true;
}

void Supervisor::step(int over_fd, const std::function<void(const Failure&)>& failed) {
  std::vector<pollfd> entries{{signals_.fd(), POLLIN, 0},
                              {over_elsewhere_ ? -1 : over_fd, POLLIN, 0},
                              {out_.empty() ? -1 : out_.fd(), POLLOUT, 0},
                              {err_.empty() ? -1 : err_.fd(), POLLOUT, 0}};
  for (const auto& worker : workers_) {
    entries.push_back({out_.full() ? -1 : worker->process.out.get(), POLLIN, 0});
    entries.push_back({err_.full() ? -1 : worker->process.err.get(), POLLIN, 0});
  }
  if (::poll(entries.data(), entries.size(), poll_timeout()) < 0 && errno != EINTR)
    throw Error(errno_message("cannot wait for workers", errno));
  for (std::size_t i = 0; i < workers_.size(); ++i)
    if ((entries[4 + 2 * i].revents | entries[5 + 2 * i].revents) != 0) read_output(*workers_[i]);
  if (entries[2].revents != 0) out_.write_some();
  if (entries[3].revents != 0) err_.write_some();
  take_signals();
  reap(failed);
  if (entries[1].revents != 0 && !over_elsewhere_) {
    over_elsewhere_ = true;
    if (!failure_) stop_workers(SIGTERM, kFailureGrace);
  }
  if (kill_at_ && Clock::now() >= *kill_at_) {
    signal_workers(SIGKILL);
    kill_at_.reset();
  }
}

void Supervisor::read_output(Worker& worker) {
  const auto drain = [](FileDescriptor& fd, LineRelay& relay) {
    std::array<char, 65536> buffer{};
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got > 0) relay.feed({buffer.data(), static_cast<std::size_t>(got)});
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) fd.reset();
  };
  if (worker.process.out && !out_.full()) drain(worker.process.out, worker.out);
  if (worker.process.err && !err_.full()) drain(worker.process.err, worker.err);
}

void Supervisor::reap(const std::function<void(const Failure&)>& failed) {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    const auto found =
        std::find_if(workers_.begin(), workers_.end(), [&](const auto& w) { return w->process.pid == pid; });
    if (found == workers_.end()) continue;  // an orphan that became ours
    Worker& worker = **found;
    worker.status = status;
    if (status == 0 || failure_ || stop_signal_ != 0 || over_elsewhere_) continue;
    const double lived = std::chrono::duration<double>(Clock::now() - worker.started).count();
    failure_ = Failure{worker.rank, pid, status, lived, false, {}};
    if (failed) failed(*failure_);
    stop_workers(SIGTERM, kFailureGrace);
  }
}

void Supervisor::take_signals() {
  for (const int signal : signals_.take())
    if (signal != SIGCHLD) on_signal(signal);
}

void Supervisor::on_signal(int signal) {
  if (!ends_the_job(signal)) return signal_workers(signal);
  const bool second = stop_signal_ != 0;
  if (!second) stop_signal_ = signal;
  stop_workers(second ? SIGKILL : signal, options_.grace_period);
}

void Supervisor::stop_workers(int signal, milliseconds grace) {
  signal_workers(signal);
  if (signal != SIGKILL) kill_at_ = Clock::now() + std::min<milliseconds>(grace, options_.grace_period);
}

/// Each worker leads a session and with it a process group of its own: children that stayed in it get the
/// signal too. A worker that has been reaped is not signalled: its number may belong to somebody else.
void Supervisor::signal_workers(int signal) const {
  for (const auto& worker : workers_)
    if (!worker->status) ::kill(-worker->process.pid, signal);
}

/// Killing one may orphan its children to us, so until there are none.
void Supervisor::kill_strays() {
  for (const Deadline deadline = Deadline::in(seconds(10)); !deadline.passed();) {
    const auto strays = children();
    if (strays.empty()) return;
    for (const pid_t stray : strays) ::kill(stray, SIGKILL);
    for (const pid_t stray : strays) ::waitpid(stray, nullptr, 0);
  }
}

bool Supervisor::all_ended() const {
  return std::all_of(workers_.begin(), workers_.end(),
                     [](const auto& worker) { return worker->status.has_value(); });
}

bool Supervisor::output_open() const {
  return !out_.empty() || !err_.empty() ||
         std::any_of(workers_.begin(), workers_.end(),
                     [](const auto& worker) { return worker->process.out || worker->process.err; });
}

int Supervisor::poll_timeout() const {
  if (!kill_at_) return 1000;
  const auto left = std::chrono::duration_cast<milliseconds>(*kill_at_ - Clock::now()).count() + 1;
  return static_cast<int>(std::clamp<long>(left, 0, 1000));
}

Outcome Supervisor::outcome() const {
  if (stop_signal_ != 0) {
    // 128 + signal unless the workers chose a code of their own; never 0, which would say that the job is done.
    int code = 0;
    for (const auto& worker : workers_) code = std::max(code, exit_code(*worker->status));
    return {Outcome::kStopped, code == 0 ? 128 + stop_signal_ : code, failure_};
  }
  if (failure_) return {Outcome::kFailed, exit_code(failure_->wait_status), failure_};
  if (over_elsewhere_) return {Outcome::kOverElsewhere, 1, {}};
  return {Outcome::kSucceeded, 0, {}};
}

void Supervisor::flush() {
  for (const Deadline deadline = Deadline::in(kFlushTime);
       (!out_.empty() || !err_.empty()) && !deadline.passed();) {
    pollfd entries[] = {{out_.empty() ? -1 : out_.fd(), POLLOUT, 0},
                        {err_.empty() ? -1 : err_.fd(), POLLOUT, 0}};
    ::poll(entries, 2, deadline.remaining_ms());
    if (entries[0].revents != 0) out_.write_some();
    if (entries[1].revents != 0) err_.write_some();
  }
}

}  // namespace ddp::launcher
