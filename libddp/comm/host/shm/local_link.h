// Finds the ranks that can share memory with this one, and maps it: theirs and the control segment.
//
// Steps, for a communicator of N ranks and a store that they share:
//   1. Every rank sets "host/<rank>": boot id, network namespace, host name, pid, the name of an abstract Unix socket,
//      and a secret.
//   2. Ranks with equal boot id and network namespace are candidates of one host. The lowest of them leads: its socket
//      accepts.
//   3. A candidate connects, both prove that they know the leader's secret, and the candidate passes the memfd of its
//      arena.
//   4. When all candidates have come, the leader passes the control segment and all arenas to each of them.
//   5. A candidate that mapped everything, and found the leader's nonce in what it mapped, says so.
//   6. The leader sets "host/members/<leader>" to the ranks that could; everybody reads it. Who is not in it is alone
//      on its host.
//
// So host names decide nothing: two containers on one machine share memory exactly if they could pass and map it.
//
// Afterwards every rank holds a lock on its byte of the control segment (an open-file-description lock: the
// kernel drops it when the rank dies, however it dies, and it works between pid namespaces).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <ddp/deadline.h>
#include <ddp/store.h>

#include "libddp/comm/describe.h"
#include "libddp/comm/host/shm/arena.h"
#include "libddp/comm/host/shm/control.h"
#include "libddp/core/fd.h"

namespace ddp::host {

/// What a rank of this host sees of the others. Members are in ascending order of rank.
struct LocalMembers {
  std::vector<int> ranks;         ///< of the communicator; this one included
  int index = 0;                  ///< of this rank in `ranks`
  std::vector<int> slots;         ///< index -> place in the control segment
  std::shared_ptr<Arena> arena;   ///< of this rank
  std::vector<std::byte*> bases;  ///< index -> where that rank's arena is mapped here
  std::vector<Mapping> mappings;  ///< of the others' arenas
  Mapping control_mapping;        ///< empty when this rank is alone
  FileDescriptor lock_fd;         ///< holds this rank's lock and tests the others'

  [[nodiscard]] Control& control() const { return *reinterpret_cast<Control*>(control_mapping.data()); }
  [[nodiscard]] RankControl& rank(int i) const { return control().rank(slots[static_cast<std::size_t>(i)]); }
};

/// Who is where, known to every rank alike.
struct Topology {
  std::vector<RankName> names;  ///< by rank
  /// Ranks that share memory, ascending; hosts ordered by their lowest rank.
  std::vector<std::vector<int>> hosts;
};

struct LocalLinkOptions {
  int rank = 0;
  int world_size = 1;
  std::string host_name;
  bool shared_memory = true;
  std::string host_id;  ///< part of step 2's comparison
  std::size_t arena_reserved = 0;
};

struct LocalLink {
  Topology topology;
  LocalMembers members;
};

/// Collective over the ranks of `store`. Throws TimeoutError naming the ranks that did not come,
/// RendezvousError for impostors.
[[nodiscard]] LocalLink link_local_ranks(const LocalLinkOptions& options, Store& store, Deadline deadline);

/// Whether the rank at place `slot` of the control segment still holds its lock.
[[nodiscard]] bool is_alive(const FileDescriptor& lock_fd, int slot);

}  // namespace ddp::host
