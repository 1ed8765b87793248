#include "launcher/agent.h"

#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <memory>

#include <ddp/error.h>
#include <ddp/log.h>
#include <ddp/rendezvous.h>

#include "launcher/job_token.h"
#include "launcher/nodes.h"
#include "launcher/signals.h"
#include "launcher/supervisor.h"

namespace ddp::launcher {
namespace {

/// A port that nobody listens on now. Somebody else may take it before rank 0 does; then the attempt fails
/// and the next gets another.
std::uint16_t free_port() {
  const FileDescriptor fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const FileDescriptor ipv4(fd ? -1 : ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int socket = fd ? fd.get() : ipv4.get();
  sockaddr_storage address{};
  address.ss_family = fd ? AF_INET6 : AF_INET;
  socklen_t length = fd ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (::bind(socket, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    throw Error(errno_message("cannot find a free port for MASTER_PORT", errno));
  return ntohs(fd ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                  : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

void say(const std::string& text) {
  std::fputs(text.c_str(), stderr);
}

class Agent {
 public:
  Agent(const Options& options, const Environment& environment)
      : options_(options),
        token_(job_token(options, environment)),
        supervisor_(options, environment, signals_) {
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
    for (;;) {
      const Outcome outcome = options_.nnodes == 1 ? run_alone() : run_with_others();
      supervisor_.flush();
      if (outcome.failure) say(describe(*outcome.failure, host_name()));
      if (outcome.kind == Outcome::kSucceeded || outcome.kind == Outcome::kCannotStart ||
          outcome.kind == Outcome::kStopped || attempt_ >= options_.max_restarts)
        return finish(outcome);
      ++attempt_;
      say("ddprun: restarting all workers, restart " + std::to_string(attempt_) + " of " +
          std::to_string(options_.max_restarts) + "\n");
    }
  }

 private:
  Attempt attempt(std::uint16_t master_port) const {
    Attempt result;
    result.number = attempt_;
    result.master_port = master_port;
    result.store_addr = options_.nnodes == 1 ? "127.0.0.1" : options_.master_addr;
    result.store_port = options_.nnodes == 1 ? server_->port() : options_.master_port;
    if (token_file_) result.token_file = "/proc/self/fd/" + std::to_string(token_file_.get());
    return result;
  }

  Outcome run_alone() { return supervisor_.run(attempt(free_port()), token_file_.get(), -1, {}); }

  Outcome run_with_others() {
    if (!nodes_) {
      const std::string address = options_.node_rank == 0 ? "127.0.0.1" : options_.master_addr;
      nodes_ = std::make_unique<Nodes>(
          options_, connect_store({address, options_.master_port}, {token_, options_.join_timeout}));
    }
    const Nodes::Start start = nodes_->join(free_port());
    attempt_ = start.attempt;
    supervisor_.take_signals();
    if (supervisor_.stop_signal() != 0) return stopped_before_start();
    const auto tell = [this](const Failure& failure) {
      nodes_->report_failure(
          "rank " + std::to_string(failure.rank) + ": " + describe_status(failure.wait_status),
          exit_code(failure.wait_status));
    };
    Outcome outcome = supervisor_.run(attempt(start.port), token_file_.get(), nodes_->over_fd(), tell);
    if (outcome.kind == Outcome::kStopped || outcome.kind == Outcome::kCannotStart)
      nodes_->report_failure("node " + std::to_string(options_.node_rank) + " was stopped", outcome.code);
    if (outcome.kind == Outcome::kSucceeded) nodes_->report_success();
    return settle(std::move(outcome));
  }

  /// What all nodes agreed on counts, whatever happened here.
  Outcome settle(Outcome outcome) {
    const Nodes::Verdict verdict = nodes_->verdict();
    if (outcome.kind == Outcome::kStopped || outcome.kind == Outcome::kCannotStart) return outcome;
    if (verdict.succeeded) return {Outcome::kSucceeded, 0, {}};
    if (verdict.lost_store) nodes_.reset();  // joins again when node 0 is back
    if (outcome.kind != Outcome::kFailed)
      say("ddprun: attempt " + std::to_string(attempt_) + " ended by another node: " + verdict.reason + "\n");
    return {Outcome::kFailed, verdict.code, outcome.failure};
  }

  Outcome stopped_before_start() {
    nodes_->report_failure("node " + std::to_string(options_.node_rank) + " was stopped",
                           128 + supervisor_.stop_signal());
    return settle({Outcome::kStopped, 128 + supervisor_.stop_signal(), {}});
  }

  int finish(const Outcome& outcome) {
    nodes_.reset();
    // The other nodes still read how it ended.
    if (server_ && options_.nnodes > 1)
      (void)server_->wait_for_connections_below(0, Deadline::in(std::chrono::seconds(10)));
    return outcome.code;
  }

  const Options& options_;
  Signals signals_;
  std::string token_;
  FileDescriptor token_file_;
  std::unique_ptr<StoreServer> server_;
  std::unique_ptr<Nodes> nodes_;
  Supervisor supervisor_;
  int attempt_ = 0;
};

void print_plan(const Options& options, const Environment& environment) {
  Attempt attempt;
  for (int local = 0; local < options.nproc_per_node; ++local) {
    const Environment worker = worker_environment(environment, options, attempt, local);
    std::cout << "rank " << options.first_rank() + local << ":";
    for (const auto& [name, value] : worker.values())
      if (environment.get(name) != value && name != "MASTER_PORT" && name != "DDP_STORE_ADDR" &&
          name != "DDP_STORE_PORT")
        std::cout << ' ' << name << '=' << value;
    for (const auto& word : options.program) std::cout << ' ' << word;
    std::cout << '\n';
  }
}

}  // namespace

int run_agent(const Options& options, const Environment& environment) {
  if (options.dry_run) return print_plan(options, environment), 0;
  return Agent(options, environment).run();
}

}  // namespace ddp::launcher
