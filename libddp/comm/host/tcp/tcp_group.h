// The ranks of a communicator over TCP: every collective between hosts, in the calling thread.
//
//   auto group = host::TcpGroup::connect({.rank = r, .world_size = n, .token = t}, store, failure, deadline);
//   group->run(operation, [&] { failure.check(); });
//
// Every pair of ranks keeps one control connection (what each operation is, small data, failures), `streams` data
// connections, and one for send and recv. docs/host-tcp.md describes the bytes.
//
// connect, run and all_reduce_among: one thread at a time. run() of send and recv: besides, one thread at a time for each
// peer and direction. fail() and what looks for failures: any thread. Errors of run() are recorded in Failure,
// told to all ranks and thrown: TimeoutError, PeerFailure, MismatchError, Aborted, Error (bytes that make no sense),
// each naming ranks, hosts, operation and sequence number. After the first one every call throws it again.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ddp/communicator.h>
#include <ddp/deadline.h>
#include <ddp/store.h>

#include "libddp/comm/failure.h"

namespace ddp::host {

struct TcpOptions {
  int rank = 0;
  int world_size = 1;
  std::string token;  ///< the job's secret; empty only on loopback
  /// Where this rank listens, numeric or a name; other ranks must reach it there. Empty: 127.0.0.1.
  std::string bind_address;
  int streams = 4;        ///< data connections to each peer, 1 to 16
  std::string host_name;  ///< how errors call this machine; empty: its host name
};

class TcpGroup {
 public:
  /// Called while an operation waits, at least every 20 ms; may throw, which ends the operation.
  using Check = std::function<void()>;

  /// Collective over all ranks that give the same view of `store`: publishes "tcp/<rank>" there, then
  /// connects to every other rank. Both objects must outlive the group (the store only this call). Throws
  /// TimeoutError naming the ranks that did not come, RendezvousError or ConfigError (a token on one side
  /// only, an address that cannot be bound).
  [[nodiscard]] static std::unique_ptr<TcpGroup> connect(const TcpOptions& options, Store& store,
                                                         Failure& failure, Deadline deadline);
  /// Says goodbye and closes; never waits for peers.
  ~TcpGroup();
  TcpGroup(const TcpGroup&) = delete;
  TcpGroup& operator=(const TcpGroup&) = delete;

  /// Executes a checked operation over all ranks (send, recv: with one); blocks until it is complete here.
  void run(const Operation& operation, const Check& check);
  /// Ring all-reduce in place among `ranks`, the same ascending list on each of them, this one included; for
  /// hierarchical all-reduce, where each lane has its own list. kMean multiplies by 1/ranks.size(). What
  /// ranks must agree on, the deadline and the name in errors are those of `of`.
  void all_reduce_among(std::span<const int> ranks, void* data, std::size_t count, DType dtype, ReduceOp op,
                        const Operation& of, const Check& check);

  /// Records a failure and tells every peer, as far as that goes without blocking. Any thread; a waiting
  /// run() ends at once. Only the first call sends.
  void fail(ErrorKind kind, const std::string& text);
  /// To be called now and then by a rank that waits, in `operation`, for another one by other means: throws as
  /// poll_failures() does, and tells the peers half way to the deadline whom it waits for.
  void while_waiting(const Operation& operation, int rank);
  /// ", which waits for rank 4 (...)", as far as ranks have told so in this operation, beginning with `rank`.
  [[nodiscard]] std::string behind(const Operation& operation, int rank) const;
  /// Looks, without waiting, whether a peer failed or left with an error; records it and throws.
  void poll_failures();
  /// poll_failures(), and PeerFailure when `rank` has closed its communicator.
  void check_peer(int rank);

  [[nodiscard]] const std::string& host_of(int rank) const;
  /// Of all connections.
  [[nodiscard]] std::vector<int> descriptors() const;

 private:
  class Impl;
  explicit TcpGroup(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ddp::host
