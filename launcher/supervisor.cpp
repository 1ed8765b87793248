#include "launcher/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <set>

#include <ddp/error.h>

#include "launcher/descendants.h"
#include "launcher/find_program.h"
#include "launcher/node.h"

namespace ddp::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Workers of a failed attempt have little to save: the checkpoint is what counts.
constexpr seconds kFailureGrace{5};
/// How long output waits for a reader that does not read, at the end of an attempt; less when told to end.
constexpr seconds kPatience{30};
constexpr seconds kStoppedPatience{3};
/// How long processes may take to die of SIGKILL (a dead network file system holds them).
constexpr seconds kKillTime{10};
constexpr const char* kDefaultPath = "/usr/local/bin:/usr/bin:/bin";

FileDescriptor open_log(const Options& options, const Attempt& attempt, int rank, const char* name) {
  if (options.log_dir.empty()) return {};
  const std::string folder = worker_folder(options, attempt.number, rank);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw ConfigError("--log-dir: cannot make the folder " + folder + ": " + error.message());
  const std::string path = folder + "/" + name;
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!fd)
    throw ConfigError(errno_message("--log-dir: cannot write " + path, errno) +
                      (errno == EMFILE ? "; raise the limit of open files (ulimit -n)" : ""));
  return fd;
}

bool same_file(int a, int b) {
  struct stat first {
  }, second{};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
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

Supervisor::Supervisor(const Options& options, const Environment& inherited, Signals& signals,
                       rlimit descriptors)
    : options_(options),
      inherited_(inherited),
      signals_(signals),
      descriptors_(descriptors),
      strangers_(children()),
      one_stream_(same_file(1, 2)) {}

Supervisor::~Supervisor() = default;

Outcome Supervisor::run(const Attempt& attempt, int token_fd, int over_fd, const Failed& failed) {
  workers_.clear();
  failure_.reset();
  kill_at_.reset();
  over_elsewhere_ = false;
  try {
    Outcome outcome = run_workers(attempt, token_fd, over_fd, failed);
    workers_.clear();
    return outcome;
  } catch (...) {
    workers_.clear();
    kill_strays();  // workers are children too
    throw;
  }
}

Outcome Supervisor::run_workers(const Attempt& attempt, int token_fd, int over_fd, const Failed& failed) {
  const auto oom_before = oom_kills();
  Outcome cannot_start;
  const bool started = start_all(attempt, token_fd, cannot_start);
  if (!started) stop_workers(SIGKILL, milliseconds(0));
  while (!all_ended()) step(over_fd, failed);
  kill_strays();
  drain();
  for (auto& worker : workers_) {
    worker->out.finish();
    worker->err.finish();
  }
  drain();  // last lines without a newline
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
  const FoundProgram program =
      find_program(options_.program[0], inherited_.get("PATH").value_or(kDefaultPath));
  int error = program.error;
  for (int local = 0; local < options_.nproc_per_node && error == 0; ++local)
    start({program.file, options_.program, worker_environment(inherited_, options_, attempt, local).strings(),
           local == 0, token_fd, signals_.original_mask(), descriptors_},
          attempt, options_.first_rank() + local, error);
  if (error == 0) return true;
  err().push("ddprun: " + describe_start_error(options_.program[0], error) + "\n");
  outcome = {Outcome::kCannotStart, error == ENOENT ? 127 : 126, {}};
  return false;
}

/// Log files first: when they cannot be written nothing has been started.
void Supervisor::start(const WorkerCommand& command, const Attempt& attempt, int rank, int& error) {
  const std::string name = "rank " + std::to_string(rank);
  const std::string prefix = options_.no_prefix ? "" : "[" + std::to_string(rank) + "] ";
  LineRelay out(prefix, out_, open_log(options_, attempt, rank, "stdout.log"), name);
  LineRelay err_relay(prefix, err(), open_log(options_, attempt, rank, "stderr.log"), name);
  WorkerProcess process = spawn(command);
  error = process.start_error;
  if (error == 0)
    workers_.push_back(
        std::make_unique<Worker>(Worker{rank, std::move(process), std::move(out), std::move(err_relay)}));
}

void Supervisor::step(int over_fd, const Failed& failed) {
  std::vector<pollfd> entries{{signals_.fd(), POLLIN, 0},
                              {over_elsewhere_ ? -1 : over_fd, POLLIN, 0},
                              {out_.empty() ? -1 : out_.fd(), POLLOUT, 0},
                              {err_.empty() ? -1 : err_.fd(), POLLOUT, 0}};
  for (const auto& worker : workers_) {
    entries.push_back({out_.full() ? -1 : worker->process.out.get(), POLLIN, 0});
    entries.push_back({err().full() ? -1 : worker->process.err.get(), POLLIN, 0});
  }
  if (::poll(entries.data(), entries.size(), poll_timeout()) < 0 && errno != EINTR)
    throw Error(errno_message("cannot wait for workers", errno));
  for (std::size_t i = 0; i < workers_.size(); ++i)
    if ((entries[4 + 2 * i].revents | entries[5 + 2 * i].revents) != 0) read_output(*workers_[i]);
  write_output(entries[2].revents, entries[3].revents);
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

/// A stream that cannot be written is reported once, on the other one.
void Supervisor::write_output(short out_events, short err_events) {
  const auto write = [](OutputSink& sink, OutputSink& other, const char* name) {
    sink.write_some();
    if (sink.error() != 0)
      other.push(errno_message(std::string("ddprun: ") + name + " cannot be written", sink.error()) +
                 "; what workers write there is dropped from now on\n");
  };
  if (out_events != 0) write(out_, err_, "standard output");
  if (err_events != 0) write(err_, out_, "standard error");
}

void Supervisor::read_output(Worker& worker) {
  const auto drain = [](FileDescriptor& fd, LineRelay& relay) {
    std::array<char, 65536> buffer{};
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got > 0) relay.feed({buffer.data(), static_cast<std::size_t>(got)});
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) fd.reset();
  };
  if (worker.process.out && !out_.full()) drain(worker.process.out, worker.out);
  if (worker.process.err && !err().full()) drain(worker.process.err, worker.err);
}

/// Of several that ended since the last look, one that a signal killed is more likely the cause: peers that
/// lose it end with a code of their own.
void Supervisor::reap(const Failed& failed) {
  const Worker* cause = nullptr;
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    const auto found = std::find_if(workers_.begin(), workers_.end(),
                                    [&](const auto& w) { return w->process.pid == pid && !w->status; });
    if (found == workers_.end()) {  // an orphan that became ours, or a stranger; its number is free again
      strangers_.erase(pid);
      continue;
    }
    Worker& worker = **found;
    worker.status = status;
    if (status != 0 && (cause == nullptr || (WIFSIGNALED(status) && !WIFSIGNALED(*cause->status))))
      cause = &worker;
  }
  if (cause != nullptr && !failure_ && stop_signal_ == 0 && !over_elsewhere_) on_failure(*cause, failed);
}

void Supervisor::on_failure(const Worker& worker, const Failed& failed) {
  const double lived = std::chrono::duration<double>(Clock::now() - worker.started).count();
  failure_ = Failure{worker.rank, worker.process.pid, *worker.status, lived, false, {}};
  stop_workers(SIGTERM, kFailureGrace);
  if (failed) failed(*failure_);
}

void Supervisor::take_signals() {
  for (const int signal : signals_.take())
    if (signal != SIGCHLD) on_signal(signal);
}

void Supervisor::on_signal(int signal) {
  if (!ends_the_job(signal)) return signal_workers(signal);
  const bool second = ++stops_ > 1;
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

std::set<pid_t> Supervisor::strays() const {
  std::set<pid_t> found = children();
  std::erase_if(found, [&](pid_t pid) { return strangers_.contains(pid); });
  return found;
}

/// Killing one may orphan its children to us, so until there are none. Never waits for one of them: a process
/// may belong to another user, or hang in the kernel.
void Supervisor::kill_strays() {
  std::set<pid_t> strays = this->strays();
  for (const Deadline deadline = Deadline::in(kKillTime); !strays.empty() && !deadline.passed();) {
    for (const pid_t stray : strays) ::kill(stray, SIGKILL);
    pollfd entry{signals_.fd(), POLLIN, 0};
    ::poll(&entry, 1, 20);
    take_signals();
    for (pid_t pid = 0; (pid = ::waitpid(-1, nullptr, WNOHANG)) > 0;) strangers_.erase(pid);
    strays = this->strays();
  }
  std::string left;
  for (const pid_t stray : strays) left += ' ' + std::to_string(stray);
  if (!left.empty()) err().push("ddprun: processes that workers left cannot be killed:" + left + "\n");
}

/// Until all is written, for as long as somebody reads.
void Supervisor::drain() {
  std::size_t before = out_.written() + err_.written();
  auto progress = Clock::now();
  const auto patient = [&] {
    return Clock::now() - progress < (stop_signal_ != 0 ? kStoppedPatience : kPatience);
  };
  while (output_open() && stops_ < 2 && patient()) {
    step(-1, {});
    const std::size_t written = out_.written() + err_.written();
    if (written != before) progress = Clock::now();
    before = written;
  }
}

void Supervisor::say(const std::string& text) {
  err().push(text);
  drain();
}

bool Supervisor::lost_output() const {
  const auto lost = [](const OutputSink& sink) {
    return sink.lost_log() || (sink.error() != 0 && sink.error() != EPIPE);
  };
  return lost(out_) || lost(err_);
}

bool Supervisor::wait_for(int fd) {
  over_elsewhere_ = false;
  for (const int stops = stops_; !over_elsewhere_ && stops_ == stops;) step(fd, {});
  return over_elsewhere_;
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
  // Never the workers' own codes, whatever they make of the signal: 1 would tell Kubernetes that the job has
  // failed for good, 0 that it is done.
  if (stop_signal_ != 0)
    return {Outcome::kStopped, failure_ ? exit_code(failure_->wait_status) : 128 + stop_signal_, failure_};
  if (failure_) return {Outcome::kFailed, exit_code(failure_->wait_status), failure_};
  if (over_elsewhere_) return {Outcome::kOverElsewhere, 1, {}};
  return {Outcome::kSucceeded, 0, {}};
}

}  // namespace ddp::launcher
