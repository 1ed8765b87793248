// From a ClusterEnv to the store that all ranks of a job share.
//
//   1. A job of one rank has a store of its own, without any connection.
//   2. Rank 0 starts the server, unless the launcher hosts it: on loopback or an abstract Unix socket when the job is
//      on one host, on every interface when it is not.
//   3. Every rank connects. Keys begin with "attempt/<restart count>/", so that nobody reads what an earlier attempt
//      left.
//   4. When rank 0 closes its store it waits, within bounds, until the others have closed theirs.
#include <ddp/error.h>
#include <ddp/log.h>
#include <ddp/rendezvous.h>

#include <thread>
#include <utility>

#include "libddp/rendezvous/auth.h"
#include "libddp/rendezvous/env_reader.h"

namespace ddp {
namespace {

/// An abstract name or loopback: nobody outside of this machine can reach it.
bool stays_here(const ClusterEnv& env) {
  return env.master_addr.starts_with("unix:") || is_loopback(env.master_addr);
}

bool allow_insecure() {
  const auto value = read_environment("DDP_ALLOW_INSECURE");
  if (!value || *value == "0" || value->empty()) return false;
  if (*value == "1") return true;
  throw ConfigError(shown("DDP_ALLOW_INSECURE", *value) + " is neither 0 nor 1");
}

StoreEndpoint listen_where(const ClusterEnv& env) {
  if (env.master_addr.starts_with("unix:")) return {env.master_addr, 0};
  if (stays_here(env)) return {env.master_addr, env.master_port};
  return {env.node_count == 1 ? "127.0.0.1" : "*", env.master_port};
}

StoreEndpoint connect_where(const ClusterEnv& env) {
  // On one host rank 0 listens on loopback, whatever name the launcher gave the machine.
  if (env.node_count == 1 && !env.launcher_hosts_store && !stays_here(env))
    return {"127.0.0.1", env.master_port};
  return {env.master_addr, env.master_port};
}

/// The rank that died before may hold the port for a moment.
std::unique_ptr<StoreServer> listen(const StoreServerOptions& options, Deadline deadline) {
  for (const Deadline patience = Deadline::in(std::chrono::seconds(10)).min(deadline);;) {
    try {
      return std::make_unique<StoreServer>(options);
    } catch (const RendezvousError& error) {
      if (patience.remaining() < std::chrono::milliseconds(200)) throw;
      log::debug("store: trying again to listen", {{"why", error.what()}});
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

/// The client of rank 0 together with the server it hosts.
struct HostedStore {
  std::unique_ptr<StoreServer> server;
  std::shared_ptr<Store> client;
  std::chrono::nanoseconds linger{};

  HostedStore() = default;
  HostedStore(const HostedStore&) = delete;
  HostedStore& operator=(const HostedStore&) = delete;
  ~HostedStore() {
    client.reset();
    if (server && !server->wait_for_connections_below(0, Deadline::in(linger)))
      log::warn("closing the store although ranks are still connected",
                {{"connections", server->connections()}, {"waited", to_string(linger)}});
  }
};

void check_security(const ClusterEnv& env, bool has_token) {
  if (has_token || stays_here(env) || env.node_count == 1 || allow_insecure()) return;
  throw ConfigError(
      "this job runs on " + std::to_string(env.node_count) +
      " hosts and has no job token, so any machine that reaches " +
      StoreEndpoint{env.master_addr, env.master_port}.describe() +
      " could join it: set DDP_JOB_TOKEN, or DDP_JOB_TOKEN_FILE to a file with it (a mounted Secret), to the "
      "same "
      "random value for every rank (openssl rand -hex 32), or accept the risk with DDP_ALLOW_INSECURE=1");
}

}  // namespace

std::string StoreEndpoint::describe() const {
  if (address.starts_with("unix:")) return address;
  const bool ipv6 = address.find(':') != std::string::npos;
  return (ipv6 ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

std::shared_ptr<Store> join_job(const ClusterEnv& env, const JoinOptions& options) {
  const std::string prefix = "attempt/" + std::to_string(env.restart_count) + "/";
  if (env.world_size == 1) return make_prefix_store(prefix, make_memory_store());
  const Deadline deadline = Deadline::in(options.timeout);
  const std::string token = load_job_token(read_environment).value_or("");
  check_security(env, !token.empty());
  auto hosted = std::make_shared<HostedStore>();
  hosted->linger = options.linger;
  if (env.rank == 0 && !env.launcher_hosts_store)
    hosted->server =
        listen({.listen = listen_where(env), .token = token, .allow_insecure = allow_insecure()}, deadline);
  hosted->client = connect_store(connect_where(env), {.token = token, .timeout = deadline.remaining()});
  return make_prefix_store(prefix, std::shared_ptr<Store>(hosted, hosted->client.get()));
}

}  // namespace ddp
