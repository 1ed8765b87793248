// All-reduce over several hosts of which at least one has several ranks: within each host by shared memory, between
// hosts by TCP.
//
//   1. The buffer is divided into as many lanes as the smallest host has ranks. Rank i of each host combines lane i
//      of its host: straight out of the others' buffers where all of them are shared, else through staging.
//   2. The i-th ranks of all hosts all-reduce lane i over TCP, all of it at once, so that the link never runs
//      empty: every rank's link to the network is used, and nothing is sent twice.
//   3. Every rank gives its lane to the others of its host, on the same way as in step 1.
//
// Sums of fp16 and bf16 stay fp32 through steps 1 and 2 and are rounded once, before step 3. One thread at a
// time.
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
  /// How an operation is divided.
  struct Lanes;
  void combine(const WaitContext& context, const Lanes& lanes);
  void combine_piece(const Operation& operation, const Lanes& lanes, Slice piece, std::size_t staged_at);
  void exchange(const WaitContext& context, const Lanes& lanes);
  void spread(const WaitContext& context, const Lanes& lanes);
  void push(const WaitContext& context, const Lanes& lanes);
  void pull(const WaitContext& context, const Lanes& lanes);
  [[nodiscard]] bool has_lane() const { return members_.index < lanes_; }
  [[nodiscard]] int local_size() const { return static_cast<int>(members_.ranks.size()); }

  const LocalMembers& members_;
  ShmGroup* shm_;
  TcpGroup& tcp_;
  int world_size_ = 0;
  int lanes_ = 0;
  std::vector<int> lane_ranks_;  ///< of this rank's lane, one per host; empty when it has no lane
  std::vector<float> wide_;      ///< fp32 partial sums of 16-bit types
  std::vector<float> scratch_;
  std::vector<const void*> inputs_;  ///< of one reduction, by index on this host
};

}  // namespace ddp::host
