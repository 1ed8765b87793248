// The pipelined chain, for large buffers: broadcast away from the root, reduce towards it. Chunks go on as
// soon as they have arrived (broadcast) or are combined (reduce); every link carries the buffer once.
//
// Both run in the direction of the ring: root, root+1, ... for broadcast; root+1, root+2, ..., root for reduce.
#pragma once

#include "libddp/comm/exchange/exchange.h"
#include "libddp/comm/exchange/fold.h"
#include "libddp/comm/exchange/slots.h"

namespace ddp::comm {

class ChainBroadcast final : public Exchange {
 public:
  /// `data`: read at `root` (an index of the team), written elsewhere.
  ChainBroadcast(Team team, int root, std::byte* data, std::size_t bytes, int streams);

  [[nodiscard]] std::vector<Talk> talks() const override { return neighbourly_talks(team_, -1); }
  void start(PartQueue& queue) override;
  void received(PartQueue& queue, const Part& part) override;

 private:
  Team team_;
  int position_;  // 0: root
  std::byte* data_;
  std::size_t bytes_;
  Cut cut_;
};

class ChainReduce final : public Exchange {
 public:
  /// `input` is left as it is unless this rank is the root and `output` equals it.
  ChainReduce(Team team, int root, const std::byte* input, std::byte* output, std::size_t count, DType dtype,
              ReduceOp op, int streams, Slots& slots);

  [[nodiscard]] std::vector<Talk> talks() const override { return neighbourly_talks(team_, -1); }
  void start(PartQueue& queue) override;
  bool place(Part& part) override;
  void received(PartQueue& queue, const Part& part) override;
  void sent(const Part& part) override;

 private:
  [[nodiscard]] Part part_of(int step, std::size_t chunk) const;
  [[nodiscard]] bool at_root() const { return position_ == team_.size(); }

  Team team_;
  int position_;  // 1: the rank after the root, which begins; size: the root
  const std::byte* input_;
  std::byte* output_;
  std::size_t count_;
  std::size_t element_;
  int streams_;
  Slots& slots_;
  Fold fold_;
  Cut cut_;
};

}  // namespace ddp::comm
