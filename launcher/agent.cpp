#include "launcher/agent.h"

#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <iostream>
#include <memory>
#include <thread>

#include <ddp/error.h>
#include <ddp/log.h>
#include <ddp/rendezvous.h>

#include "launcher/free_port.h"
#include "launcher/job_token.h"
#include "launcher/nodes.h"
#include "launcher/signals.h"
#include "launcher/standard_streams.h"
#include "launcher/supervisor.h"
#include "libddp/rendezvous/auth.h"

namespace ddp::launcher {
namespace {

/// "host/pid/3f09c2d1": of this process, in messages and among processes with the same host name and pid.
std::string new_identity() {
  std::array<std::uint8_t, 4> bytes{};
  random_bytes(bytes);
  std::string text = host_name() + "/" + std::to_string(::getpid()) + "/";
  for (const auto byte : bytes) {
    static constexpr char kHex[] = "0123456789abcdef";
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

class Agent {
 public:
  Agent(const Options& options, const Environment& environment)
      : options_(options),
        token_(job_token(options, environment)),
        supervisor_(options, environment, signals_, raise_descriptor_limit()) {
    // Orphans of workers become ours, so that none outlives the job.
    if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
      throw Error(errno_message("cannot become the subreaper of workers", errno));
    if (!token_.empty()) token_file_ = sealed_token(token_);
    if (options.node_rank == 0) {
      const StoreEndpoint listen =
          options.nnodes == 1 ? StoreEndpoint{"127.0.0.1", 0} : StoreEndpoint{"*", options.master_port};
      server_ = std::make_unique<StoreServer>(
          StoreServerOptions{.listen = listen, .token = token_, .allow_insecure = token_.empty()});
    }
  }

  int run() {
    try {
      const int code = run_attempts();
      part();
      return code;
    } catch (...) {
      part();
      throw;
    }
  }

 private:
  int run_attempts() {
    for (;;) {
      const Outcome outcome = options_.nnodes == 1 ? run_alone() : run_with_others();
      if (outcome.failure) supervisor_.say(describe(*outcome.failure, host_name()));
      if (!reason_.empty()) supervisor_.say("ddprun: " + reason_ + "\n");
      reason_.clear();
      if (outcome.failure && forbids_restart(outcome.failure->wait_status)) again_ = false;
      if (outcome.kind != Outcome::kFailed || !again_ || attempt_ >= options_.max_restarts)
        return outcome.code == 0 && supervisor_.lost_output() ? 1 : outcome.code;
      supervisor_.say("ddprun: restarting all workers, restart " + std::to_string(attempt_ + 1) + " of " +
                      std::to_string(options_.max_restarts) + "\n");
    }
  }

  [[nodiscard]] Attempt attempt(std::uint16_t master_port) const {
    Attempt result;
    result.number = attempt_;
    result.master_port = master_port;
    result.store_addr = options_.nnodes == 1 ? "127.0.0.1" : options_.master_addr;
    result.store_port = options_.nnodes == 1 ? server_->port() : options_.master_port;
    if (token_file_) result.token_file = "/proc/self/fd/" + std::to_string(token_file_.get());
    return result;
  }

  Outcome run_alone() {
    ++attempt_;
    const std::uint16_t port = options_.master_port != 0 ? options_.master_port : free_port();
    return supervisor_.run(attempt(port), token_file_.get(), -1, {});
  }

  Outcome run_with_others() {
    const Nodes::Joined joined = meet();
    if (supervisor_.stop_signal() != 0) {
      if (nodes_) nodes_->end_attempt(stopped());
      return {Outcome::kStopped, stopped().code, {}};
    }
    if (joined.end) {
      again_ = false;
      reason_ = joined.end->reason;
      return {Outcome::kFailed, joined.end->code, {}};
    }
    attempt_ = joined.start->attempt;
    return settle(run_workers(joined.start->port));
  }

  /// Everything that ends the attempt here is told to the other nodes, before it is dealt with.
  Outcome run_workers(std::uint16_t port) {
    const auto tell = [this](const Failure& failure) {
      const std::string what = "rank " + std::to_string(failure.rank) + " on " + host_name() +
                               " failed first: " + describe_status(failure.wait_status);
      nodes_->end_attempt({exit_code(failure.wait_status), !forbids_restart(failure.wait_status), what});
    };
    try {
      Outcome outcome = supervisor_.run(attempt(port), token_file_.get(), nodes_->over_fd(), tell);
      if (outcome.kind == Outcome::kStopped) nodes_->end_attempt(stopped());
      if (outcome.kind == Outcome::kCannotStart)
        nodes_->end_attempt({outcome.code, false, me() + " cannot start '" + options_.program[0] + "'"});
      if (outcome.kind == Outcome::kSucceeded) nodes_->report_success();
      return outcome;
    } catch (const Error& error) {
      nodes_->end_attempt({1, false, me() + ": " + error.what()});
      throw;
    }
  }

  /// What all nodes agreed on counts, whatever happened here.
  Outcome settle(Outcome outcome) {
    if (outcome.kind == Outcome::kStopped || outcome.kind == Outcome::kCannotStart) return outcome;
    try {
      const auto verdict = await_verdict();
      if (!verdict) return {Outcome::kStopped, stopped().code, {}};
      if (verdict->code == 0) return {Outcome::kSucceeded, 0, {}};
      again_ = verdict->again;
      if (outcome.kind != Outcome::kFailed)
        reason_ = "attempt " + std::to_string(attempt_) + " was ended by another node: " + verdict->reason;
      else if (verdict->reason.find("rank " + std::to_string(outcome.failure->rank) + " ") != 0)
        reason_ = "but before that, on another node: " + verdict->reason;
      return {Outcome::kFailed, verdict->code, outcome.failure};
    } catch (const RendezvousError& error) {
      nodes_.reset();  // joins again when node 0 is back
      reason_ = std::string("node 0 is lost: ") + error.what();
      return {Outcome::kFailed, outcome.kind == Outcome::kFailed ? outcome.code : 1, outcome.failure};
    }
  }

  /// A node that is done waits for the others, and may be told to end meanwhile. nullopt: it was.
  std::optional<Verdict> await_verdict() {
    while (!nodes_->over())
      if (!supervisor_.wait_for(nodes_->over_fd())) {
        nodes_->end_attempt(stopped());
        return std::nullopt;
      }
    return nodes_->over();
  }

  /// Joins the next attempt; connects anew when node 0 goes away and comes back meanwhile.
  Nodes::Joined meet() {
    const Deadline deadline = Deadline::in(options_.join_timeout);
    const auto interrupted = [this] {
      supervisor_.take_signals();
      return supervisor_.stop_signal() != 0;
    };
    for (;;) {
      if (!nodes_) connect(deadline);
      try {
        return nodes_->join(attempt_, free_port(), deadline, interrupted);
      } catch (const RendezvousError& error) {
        if (options_.node_rank == 0 || deadline.passed()) throw;
        log::debug("node 0 went away while the nodes were meeting", {{"why", error.what()}});
        nodes_.reset();
        pause();
      }
    }
  }

  /// Node 0 may be on its way out, and still accept connections.
  void pause() {
    const FileDescriptor timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    const itimerspec half_a_second{{0, 0}, {0, 500'000'000}};
    if (::timerfd_settime(timer.get(), 0, &half_a_second, nullptr) == 0)
      (void)supervisor_.wait_for(timer.get());
  }

  /// Connecting may take as long as the join timeout, obeying a signal must not: a thread connects while this
  /// one listens.
  void connect(Deadline deadline) {
    std::shared_ptr<Store> store;
    std::exception_ptr failed;
    const FileDescriptor done(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!done) throw Error(errno_message("cannot make an eventfd", errno));
    const std::string address = options_.node_rank == 0 ? "127.0.0.1" : options_.master_addr;
    std::thread thread([&] {
      try {
        store = connect_store({address, options_.master_port}, {token_, deadline.remaining()});
      } catch (const Error&) {
        failed = std::current_exception();
      }
      const std::uint64_t one = 1;
      [[maybe_unused]] const auto written = ::write(done.get(), &one, sizeof one);
    });
    if (!supervisor_.wait_for(done.get())) leave_at_once();
    thread.join();
    if (failed) std::rethrow_exception(failed);
    nodes_ =
        std::make_unique<Nodes>(options_, store, identity_ + ' ' + std::to_string(++connections_), deadline);
  }

  /// Nothing runs that would have to be ended, except for the thread that connects, which cannot be.
  [[noreturn]] void leave_at_once() {
    supervisor_.say("ddprun: " + stopped().reason + " while it waited for node 0\n");
    ::_exit(stopped().code);
  }

  [[nodiscard]] std::string me() const { return "node " + std::to_string(options_.node_rank); }
  [[nodiscard]] Verdict stopped() const {
    const int signal = supervisor_.stop_signal();
    return {128 + signal, true, me() + " was stopped by " + signal_name(signal)};
  }

  /// The other nodes still read how it ended.
  void part() {
    if (nodes_) nodes_->leave();
    nodes_.reset();
    if (server_ && options_.nnodes > 1)
      (void)server_->wait_for_connections_below(0, Deadline::in(std::chrono::seconds(10)));
  }

  const Options& options_;
  Signals signals_;
  std::string token_;
  FileDescriptor token_file_;
  std::string identity_ = new_identity();
  int connections_ = 0;
  std::unique_ptr<StoreServer> server_;
  std::unique_ptr<Nodes> nodes_;
  Supervisor supervisor_;
  int attempt_ = -1;    ///< the latest
  bool again_ = true;   ///< whether another attempt may help
  std::string reason_;  ///< why the attempt ended, if another node knows better
};

std::string quoted(const std::string& word) {
  if (!word.empty() && word.find_first_of(" \t\n'\"\\$`*?[]{}()<>|&;#~!") == word.npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

void print_plan(const Options& options, const Environment& environment) {
  Attempt attempt;
  for (int local = 0; local < options.nproc_per_node; ++local) {
    const Environment worker = worker_environment(environment, options, attempt, local);
    std::cout << "rank " << options.first_rank() + local << ":";
    for (const auto& [name, value] : worker.values())
      if (environment.get(name) != value && name != "MASTER_PORT" && name != "DDP_STORE_ADDR" &&
          name != "DDP_STORE_PORT")
        std::cout << ' ' << name << '=' << quoted(value);
    for (const auto& word : options.program) std::cout << ' ' << quoted(word);
    std::cout << '\n';
  }
}

}  // namespace

int run_agent(const Options& options, const Environment& environment) {
  if (options.dry_run) return print_plan(options, environment), 0;
  return Agent(options, environment).run();
}

}  // namespace ddp::launcher
