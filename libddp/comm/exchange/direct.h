// Direct exchange: every pair that has something for each other sends it in one go. For everything small,
// where the data travels inside the frames, and for all-to-all, gather, scatter, send and recv of any size.
#pragma once

#include "libddp/comm/exchange/exchange.h"

namespace ddp::comm {

/// What goes to and comes from one peer.
struct Flow {
  int rank = 0;
  std::span<const std::byte> out;
  std::span<std::byte> in;
};

class Direct final : public Exchange {
 public:
  /// `flows` names every peer to talk to, with empty spans where nothing moves. Data is inline if `largest`,
  /// which all ranks must compute alike, is small enough.
  Direct(std::vector<Flow> flows, std::size_t largest, int streams);

  [[nodiscard]] std::vector<Talk> talks() const override;
  void start(PartQueue& queue) override;
  void heard(int rank, Heard& heard) override;

 private:
  std::vector<Flow> flows_;
  bool inline_;
  Cut cut_;
};

/// Small all-reduce, reduce and reduce-scatter: whoever needs a result gets all inputs and combines them in
/// the order of the ranks, so all compute the same.
class DirectReduce final : public Exchange {
 public:
  struct Plan {
    const std::byte* input = nullptr;  ///< of the result this rank gets, or would get
    std::byte* output = nullptr;       ///< null: this rank gets none
    std::size_t count = 0;             ///< elements of one result
    DType dtype = DType::kUInt8;
    ReduceOp op = ReduceOp::kSum;
    /// By team index: what that rank needs of this one; empty: nothing. The own one is ignored.
    std::vector<std::span<const std::byte>> out;
    int hub = -1;  ///< the only one that gets a result (team index); -1: all do
  };
  DirectReduce(Team team, Plan plan);

  [[nodiscard]] std::vector<Talk> talks() const override;
  void heard(int rank, Heard& heard) override;
  void finish() override;

 private:
  Team team_;
  Plan plan_;
  std::vector<std::vector<std::byte>> inputs_;  // by team index
};

}  // namespace ddp::comm
