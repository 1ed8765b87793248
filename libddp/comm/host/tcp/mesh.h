// A connection set between all ranks: one control link, `streams` data links and one for messages to every peer.
//
//   1. listen, publish address and a nonce in the store, read everybody's
//   2. connect to every lower rank, streams in order, proving who we are on each connection
//   3. accept every higher rank's connections
//
// Ranks wait for lower ranks only, so this cannot deadlock. Connecting: one thread. Afterwards control and data links
// belong to whoever holds `reading`.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <ddp/store.h>

#include "libddp/comm/failure.h"
#include "libddp/comm/host/tcp/control_link.h"
#include "libddp/comm/host/tcp/data_links.h"
#include "libddp/comm/host/tcp/tcp_group.h"

namespace ddp::host {

struct Peer {
  RankName name;
  std::unique_ptr<ControlLink> control;
  DataLinks data;
  FileDescriptor messages;  ///< send and recv (messages.h)
  bool agreed = false;      ///< its frame of the operation under way has come and says the same as ours
};

struct Mesh {
  RankName me;
  int streams = 1;
  std::vector<std::unique_ptr<Peer>> peers;  ///< by rank; null for this one
  std::mutex reading;                        ///< what arrives is taken in by one thread at a time
  std::atomic<bool> heard_failure{false};    ///< a peer told of the failure: it has told everybody

  [[nodiscard]] int size() const { return static_cast<int>(peers.size()); }
  [[nodiscard]] Peer& peer(int rank) { return *peers[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] const Peer& peer(int rank) const { return *peers[static_cast<std::size_t>(rank)]; }
};

/// Throws what TcpGroup::connect() says.
[[nodiscard]] std::unique_ptr<Mesh> connect_mesh(const TcpOptions& options, Store& store,
                                                 const Failure& failure, Deadline deadline);

}  // namespace ddp::host
