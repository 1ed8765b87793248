// The pipelined ring: reduce-scatter, all-gather, or one after the other (all-reduce), for large buffers.
//
// With n ranks and n shares of the buffer, in the reducing steps t = 0 .. n-2 rank r
//   1. sends share r-1-t to rank r+1: its own input at t = 0, the partial result of step t-1 afterwards
//   2. receives share r-2-t from rank r-1 and combines it with its own input
// after which it owns the finished share r. In the gathering steps u = 0 .. n-2 it sends share r-u, which it
// got in the step before, and receives share r-1-u in place (Patarasu and Yuan, "Bandwidth optimal all-reduce
// algorithms", 2009). Every share is finished by one rank and copied to the others, so all get the same bits.
//
// Shares are cut into chunks. A chunk goes on as soon as it is combined: steps overlap, and so do reduction
// and transfer. No rank ever refuses to receive, so the circle cannot block itself.
#pragma once

#include "libddp/comm/exchange/exchange.h"
#include "libddp/comm/exchange/fold.h"
#include "libddp/comm/exchange/slots.h"

namespace ddp::comm {

struct RingPlan {
  struct Share {
    std::size_t offset = 0;  ///< elements from the start of the whole buffer
    std::size_t count = 0;
  };
  const std::byte* input = nullptr;  ///< whole buffer; gather only: own share
  std::byte* output = nullptr;       ///< whole buffer; reduce only: own share
  std::vector<Share> shares;         ///< one a rank of the team
  bool reduce = false;
  bool gather = false;
  DType dtype = DType::kUInt8;
  ReduceOp op = ReduceOp::kSum;
};

class Ring final : public Exchange {
 public:
  Ring(Team team, RingPlan plan, int streams, Slots& slots);

  [[nodiscard]] std::vector<Talk> talks() const override { return neighbourly_talks(team_, -1); }
  void start(PartQueue& queue) override;
  bool place(Part& part) override;
  void received(PartQueue& queue, const Part& part) override;
  void sent(const Part& part) override;

 private:
  /// Of all steps, reducing and gathering: which share goes out or comes in.
  [[nodiscard]] int share_sent(int step) const;
  [[nodiscard]] int share_received(int step) const { return team_.wrap(share_sent(step) - 1); }
  [[nodiscard]] int last_step() const { return reducing_ + (plan_.gather ? team_.size() - 1 : 0) - 1; }
  [[nodiscard]] std::byte* output_at(const Part& part) const;
  [[nodiscard]] std::size_t elements_of(const Part& part) const;
  /// The chunk as it is sent at `step`; `first`: see sent_before_.
  [[nodiscard]] Part part_of(int step, int share, std::size_t chunk, std::size_t first) const;
  [[nodiscard]] std::size_t chunks_of(int share) const;
  void combine(PartQueue& queue, const Part& part);

  Team team_;
  RingPlan plan_;
  Slots& slots_;
  Fold fold_;
  std::size_t element_;
  Cut cut_;
  int reducing_;                          // number of reducing steps
  std::vector<std::size_t> sent_before_;  // by step: parts sent in the steps before
};

}  // namespace ddp::comm
