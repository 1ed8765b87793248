// Who takes part and where: each rank publishes a record in the store and reads everybody's.
//
// One thread.
#pragma once

#include <string>
#include <vector>

#include <ddp/deadline.h>
#include <ddp/store.h>

#include "libddp/comm/describe.h"
#include "libddp/comm/host/tcp/socket.h"

namespace ddp::host {

struct RosterEntry {
  Endpoint endpoint;
  int streams = 0;
  std::string nonce;  ///< of the listener: a port that was used before is not mistaken for this group's
  RankName name;
};

[[nodiscard]] std::string encode(const RosterEntry& entry);
/// Throws RendezvousError when the text is not one that encode() made.
[[nodiscard]] RosterEntry decode_entry(const std::string& text, int rank);

/// Publishes `own` as "tcp/<rank>" and waits for all others. Throws TimeoutError naming every rank that did
/// not come, ConfigError when `streams` differ.
[[nodiscard]] std::vector<RosterEntry> exchange_roster(const RosterEntry& own, int world_size, Store& store,
                                                       Deadline deadline);

}  // namespace ddp::host
