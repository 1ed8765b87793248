// broadcast, gather, scatter, all_gather, all_to_all and reduce_scatter between ranks that share memory: every rank
// takes what it needs out of the others' inputs, directly where they are shared, else by rounds through staging.
//
// Round k of an input is copied in before synchronisation k and taken after it, before synchronisation k + 1;
// round k + 2, which uses the same area, is copied in after that one.
#include <algorithm>
#include <numeric>

#include "libddp/comm/host/shm/shm_group.h"
#include "libddp/comm/kernels/reduce_kernels.h"

namespace ddp::host {

/// What moves, in bytes. "Share" is what one destination takes from one source.
struct ShmGroup::Plan {
  std::vector<std::size_t> share;  ///< by source; 0: gives nothing
  std::vector<std::size_t> place;  ///< by source: where its share lands in the output
  bool per_destination = false;    ///< share d of the input is for destination d; else all take the same
  bool takes = true;               ///< whether this rank takes anything
  bool reduces = false;            ///< shares are combined instead of laid side by side
  std::size_t piece = 0;           ///< of a share, per round
  std::size_t rounds = 0;
};

namespace {

/// Per round and rank: what is copied in is still in the cache when it is taken.
constexpr std::size_t kRoundBytes = 512 << 10;

bool only_root_gives(OpKind kind) {
  return kind == OpKind::kBroadcast || kind == OpKind::kScatter;
}

}  // namespace

void ShmGroup::pull(const WaitContext& context) {
  const Operation& operation = context.operation;
  const int rank = members_.ranks[static_cast<std::size_t>(index())];
  const std::size_t element = size_of(operation.dtype);
  const auto ranks = static_cast<std::size_t>(size());
  Plan plan;
  plan.share.assign(ranks, operation.count * element);
  if (operation.kind == OpKind::kAllGatherV)
    for (std::size_t s = 0; s < ranks; ++s) plan.share[s] = operation.counts[s] * element;
  if (only_root_gives(operation.kind))
    for (std::size_t s = 0; s < ranks; ++s)
      if (members_.ranks[s] != operation.root) plan.share[s] = 0;
  plan.place.assign(ranks, 0);
  plan.reduces = operation.kind == OpKind::kReduceScatter;
  if (!plan.reduces && !only_root_gives(operation.kind))
    std::exclusive_scan(plan.share.begin(), plan.share.end(), plan.place.begin(), std::size_t{0});
  plan.per_destination =
      operation.kind == OpKind::kScatter || operation.kind == OpKind::kAllToAll || plan.reduces;
  plan.takes = operation.kind != OpKind::kGather || operation.root == rank;
  plan.piece = (plan.per_destination ? std::min(kRoundBytes, kStagingBytes / ranks) : kRoundBytes) / 64 * 64;
  const std::size_t largest = *std::max_element(plan.share.begin(), plan.share.end());
  plan.rounds = (largest + plan.piece - 1) / plan.piece;

  const bool private_input = operation.input != nullptr && !members_.arena->offset_of(operation.input, 1);
  if (private_input && plan.rounds > 0) put(operation, plan, 0);
  begin(context);
  bool all_shared = true;
  bool any_shared = false;
  for (int s = 0; s < size(); ++s) {
    if (plan.share[static_cast<std::size_t>(s)] == 0) continue;
    (shared_input(s) != nullptr ? any_shared : all_shared) = shared_input(s) != nullptr;
  }
  if (all_shared && any_shared) {
    plan.piece = largest;
    plan.rounds = 1;
  }
  for (std::size_t round = 0; round < plan.rounds; ++round) {
    if (round > 0) {
      if (private_input) put(operation, plan, round);
      synchronise(context);
    }
    if (plan.takes) take(operation, plan, round);
    flip();
  }
  // Whoever gave memory of its own must not change it before everybody has read it.
  if (any_shared) synchronise(context);
}

void ShmGroup::put(const Operation& operation, const Plan& plan, std::size_t round) {
  const std::size_t share = plan.share[static_cast<std::size_t>(index())];
  const std::size_t begin = round * plan.piece;
  if (begin >= share) return;
  const std::size_t bytes = std::min(plan.piece, share - begin);
  const auto* input = static_cast<const std::byte*>(operation.input);
  if (!plan.per_destination) {
    copy_bytes(staging(index()), input + begin, bytes);
    return;
  }
  for (int d = 0; d < size(); ++d) {
    if (d == index()) continue;
    const auto destination = static_cast<std::size_t>(d);
    copy_bytes(staging(index()) + destination * plan.piece, input + destination * share + begin, bytes);
  }
}

const std::byte* ShmGroup::source_of(const Operation& operation, const Plan& plan, int source,
                                     std::size_t round) const {
  const std::size_t share = plan.share[static_cast<std::size_t>(source)];
  const auto me = static_cast<std::size_t>(index());
  const std::byte* input =
      source == index() ? static_cast<const std::byte*>(operation.input) : shared_input(source);
  if (input != nullptr) return input + (plan.per_destination ? me * share : 0) + round * plan.piece;
  return staging(source) + (plan.per_destination ? me * plan.piece : 0);
}

void ShmGroup::take(const Operation& operation, const Plan& plan, std::size_t round) {
  plan.reduces ? take_reduced(operation, plan, round) : take_copies(operation, plan, round);
}

void ShmGroup::take_copies(const Operation& operation, const Plan& plan, std::size_t round) {
  auto* output = static_cast<std::byte*>(operation.output);
  // Starting behind itself, so that not all ranks read the same memory at once.
  for (int i = 0; i < size(); ++i) {
    const int source = (index() + 1 + i) % size();
    const auto s = static_cast<std::size_t>(source);
    const std::size_t begin = round * plan.piece;
    if (begin >= plan.share[s]) continue;
    const std::byte* from = source_of(operation, plan, source, round);
    std::byte* to = output + plan.place[s] + begin;
    if (from != to) copy_bytes(to, from, std::min(plan.piece, plan.share[s] - begin));
  }
}

void ShmGroup::take_reduced(const Operation& operation, const Plan& plan, std::size_t round) {
  const std::size_t begin = round * plan.piece;
  const std::size_t bytes = std::min(plan.piece, plan.share[0] - begin);
  inputs_.resize(static_cast<std::size_t>(size()));
  for (int s = 0; s < size(); ++s)
    inputs_[static_cast<std::size_t>(s)] = source_of(operation, plan, s, round);
  reduce(static_cast<std::byte*>(operation.output) + begin, inputs_, bytes / size_of(operation.dtype),
         operation.dtype, operation.op, operation.op == ReduceOp::kMean ? 1.0 / size() : 1.0);
}

}  // namespace ddp::host
