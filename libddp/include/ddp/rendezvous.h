// How the ranks of a job get to share a Store, and the server behind it.
//
//   ddp::ClusterEnv env = ddp::ClusterEnv::from_environment();
//   std::shared_ptr<ddp::Store> store = ddp::join_job(env);       // rank 0 also hosts the server
//   std::shared_ptr<ddp::Group> ranks = ddp::make_store_group(store, env.rank, env.world_size);
//
// Functions and objects may be used from any thread, except that a Group belongs to one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <ddp/cluster_env.h>
#include <ddp/deadline.h>
#include <ddp/group.h>
#include <ddp/store.h>

namespace ddp {

/// Where a store listens.
struct StoreEndpoint {
  /// Host name, IPv4 or IPv6 address without brackets, or "unix:@name" for an abstract Unix socket.
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;  ///< ignored for unix:
  /// "host:29500", "[::1]:29500", "unix:@name": for messages.
  [[nodiscard]] std::string describe() const;
};

struct StoreServerOptions {
  /// "127.0.0.1", "::1", "*" (every interface, IPv4 and IPv6) or another address of this machine, or "unix:@name".
  StoreEndpoint listen;
  /// What every client must know (libddp/rendezvous/auth.h); empty: none, which is allowed on loopback and
  /// unix: only. With one, connections are encrypted too (CMake option DDP_TLS).
  std::string token;
  /// Accepts strangers from other machines. What DDP_ALLOW_INSECURE=1 sets.
  bool allow_insecure = false;
  /// Of clients that have proven the token; more are told to come again.
  std::size_t max_connections = 16384;
  /// Of callers that have proven nothing yet; never more than a quarter of the descriptors this process may
  /// open. When all places are taken the oldest caller of more than a second is dropped for the next one.
  std::size_t max_strangers = 1024;
  /// For proving the token, all steps together.
  std::chrono::nanoseconds handshake_time = std::chrono::seconds(10);
  /// For a request to arrive whole once it has begun.
  std::chrono::nanoseconds frame_time = std::chrono::seconds(60);
  /// Keys and values together; a request that would exceed it is refused.
  std::size_t max_bytes = std::size_t{1} << 30;
};

/// Serves one key-value store from a thread of its own until destroyed.
class StoreServer {
 public:
  /// Listens before it returns. Throws RendezvousError (address in use, no such address), ConfigError (no
  /// token and not loopback).
  explicit StoreServer(const StoreServerOptions& options);
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;

  /// The port it listens on: the one asked for, or the kernel's choice for 0.
  [[nodiscard]] std::uint16_t port() const;
  /// Clients that have proven the token and are still connected.
  [[nodiscard]] std::size_t connections() const;
  /// Waits until at most `count` of them are left. Returns whether that happened before the deadline.
  bool wait_for_connections_below(std::size_t count, Deadline deadline);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

struct StoreClientOptions {
  std::string token;
  /// For finding, reaching and convincing the server; names are resolved and connections tried again until then.
  std::chrono::nanoseconds timeout = std::chrono::minutes(5);
};

/// Throws TimeoutError that says what failed last (at a short timeout also that the server does not accept the token),
/// ConfigError when it goes on refusing it, RendezvousError.
[[nodiscard]] std::shared_ptr<Store> connect_store(const StoreEndpoint& endpoint,
                                                   const StoreClientOptions& options);

/// A store of this process alone.
[[nodiscard]] std::shared_ptr<Store> make_memory_store();

struct JoinOptions {
  std::chrono::nanoseconds timeout = std::chrono::minutes(5);
  /// How long the rank that hosts the store waits, when it closes it, for the others to be done with it.
  std::chrono::nanoseconds linger = std::chrono::seconds(10);
};

/// The job's store below the prefix of this restart attempt. Rank 0 hosts the server unless the launcher
/// does. The job token comes from DDP_JOB_TOKEN or the file DDP_JOB_TOKEN_FILE. Throws ConfigError (several
/// hosts without a token and without DDP_ALLOW_INSECURE=1), RendezvousError, TimeoutError.
[[nodiscard]] std::shared_ptr<Store> join_job(const ClusterEnv& env, const JoinOptions& options = {});

/// Throws when `rank` can no longer come (Communicator::check_peer).
using CheckPeer = std::function<void(int rank)>;

/// The ranks as a Group, by way of a store (below a prefix that nobody else uses). `check_peer`, where given, is called
/// several times a second with the rank that is waited for; what it throws ends the wait.
[[nodiscard]] std::shared_ptr<Group> make_store_group(std::shared_ptr<Store> store, int rank, int world_size,
                                                      CheckPeer check_peer = {});

}  // namespace ddp
