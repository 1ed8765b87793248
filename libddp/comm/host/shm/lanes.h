// send and recv between ranks that share memory: one lane for each pair and direction, a ring of pieces in
// the sender's arena.
//
// A sender returns when its last piece is in the ring, so up to kLaneSlots pieces need no receiver. Each lane
// may be used by one sending and one receiving thread at a time; different lanes by different threads.
#pragma once

#include "libddp/comm/host/shm/layout.h"
#include "libddp/comm/host/shm/local_sync.h"

namespace ddp::host {

class ShmLanes {
 public:
  /// All must outlive it.
  ShmLanes(const LocalMembers& members, const std::vector<RankName>& names, const LocalSync& sync)
      : members_(members), names_(names), sync_(sync) {}

  /// Index of a rank of the communicator among the members; -1 when it is on another host.
  [[nodiscard]] int index_of(int rank) const;
  /// Throw MismatchError (recv: sizes or types differ) and what LocalSync::wait_change throws.
  void send(const WaitContext& context) const;
  void recv(const WaitContext& context) const;

 private:
  [[nodiscard]] LaneControl& lane(int source, int destination) const;
  [[nodiscard]] std::byte* slot(int source, int destination, std::uint32_t piece) const;
  void check(const LaneControl::Piece& piece, const Operation& operation) const;

  const LocalMembers& members_;
  const std::vector<RankName>& names_;
  const LocalSync& sync_;
};

}  // namespace ddp::host
