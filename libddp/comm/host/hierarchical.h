// All-reduce over several hosts of which at least one has several ranks: within each host by shared memory, between
// hosts by TCP.
//
//   1. The ranks of a host show each other a piece of the buffer (in staging, or in place where buffers are shared).
//   2. The buffer is divided into as many lanes as the smallest host has ranks. Rank i of each host combines lane i of
//      its host.
//   3. The i-th ranks of all hosts all-reduce lane i over TCP: every rank's link to the network is used, and nothing
//      is sent twice.
//   4. Every rank copies the lanes out of the others' staging.
//
// Sums of fp16 and bf16 stay fp32 through steps 2 and 3 and are rounded once, before step 4. One thread at a time.
#pragma once

#include <vector>

#include "libddp/comm/host/shm/shm_group.h"
#include "libddp/comm/host/tcp/tcp_group.h"

namespace ddp::host {

class Hierarchical {
 public:
  /// `shm` is null on a rank that is alone on its host. All must outlive it.
  Hierarchical(const Topology& topology, const LocalMembers& members, ShmGroup* shm, TcpGroup& tcp);

  void all_reduce(const WaitContext& context);

 private:
  struct Piece;
  void combine_lane(const WaitContext& context, const Piece& piece);
  void reduce_local(const Operation& operation, const Piece& piece);
  void exchange_lane(const WaitContext& context, const Piece& piece);
  [[nodiscard]] int local_size() const { return static_cast<int>(members_.ranks.size()); }

  const LocalMembers& members_;
  ShmGroup* shm_;
  TcpGroup& tcp_;
  int world_size_ = 0;
  int lanes_ = 0;
  std::vector<int> lane_ranks_;  ///< of this rank's lane, one per host; empty when it has no lane
  std::vector<float> wide_;      ///< fp32 partial sums of 16-bit types
  std::vector<float> scratch_;
};

}  // namespace ddp::host
