#include "libddp/comm/exchange/plan.h"

#include <algorithm>
#include <cstring>

#include "libddp/comm/exchange/chain.h"
#include "libddp/comm/exchange/direct.h"
#include "libddp/comm/exchange/ring.h"

namespace ddp::comm {
namespace {

// Everybody's input goes to everybody: beyond this many bytes at one rank the ring is faster.
constexpr std::size_t kMostDirectBytes = 8 * wire::kInlineBytes;

const std::byte* bytes_of(const void* data) {
  return static_cast<const std::byte*>(data);
}
std::byte* bytes_of(void* data) {
  return static_cast<std::byte*>(data);
}

struct Planner {
  const Operation& op;
  Team team;
  int streams;
  Slots& slots;
  std::size_t element = size_of(op.dtype);
  std::size_t bytes = op.count * element;  ///< of one rank's share
  std::size_t ranks = team.ranks.size();
  const std::byte* input = bytes_of(op.input);
  std::byte* output = bytes_of(op.output);

  [[nodiscard]] bool small() const {
    return bytes <= wire::kInlineBytes && bytes * (ranks - 1) <= kMostDirectBytes;
  }
  [[nodiscard]] std::unique_ptr<Exchange> make();

 private:
  [[nodiscard]] std::unique_ptr<Exchange> ring(std::vector<RingPlan::Share> shares, bool reduce,
                                               bool gather) {
    return std::make_unique<Ring>(std::move(team),
                                  RingPlan{input, output, std::move(shares), reduce, gather, op.dtype, op.op},
                                  streams, slots);
  }
  [[nodiscard]] std::unique_ptr<Exchange> direct(std::vector<Flow> flows, std::size_t largest) {
    return std::make_unique<Direct>(std::move(flows), largest, streams);
  }
  /// One flow a peer; those of `hub` (a rank; -1: none special) with everybody, the rest with neighbours.
  [[nodiscard]] std::vector<Flow> flows_around(int hub) const {
    std::vector<Flow> flows;
    for (const auto& talk : neighbourly_talks(team, hub)) flows.push_back({talk.rank, {}, {}});
    return flows;
  }
  [[nodiscard]] std::vector<Flow> flows_to_all() const {
    std::vector<Flow> flows;
    for (int i = 0; i < team.size(); ++i)
      if (i != team.me) flows.push_back({team.rank_at(i), {}, {}});
    return flows;
  }
  [[nodiscard]] std::span<std::byte> share_of_output(int rank) const {
    return {output + static_cast<std::size_t>(rank) * bytes, bytes};
  }
  [[nodiscard]] std::span<const std::byte> share_of_input(int rank) const {
    return {input + static_cast<std::size_t>(rank) * bytes, bytes};
  }
  void keep_own(const std::byte* from, std::byte* to) const {
    if (bytes > 0 && from != to) std::memmove(to, from, bytes);
  }
  [[nodiscard]] bool root() const { return team.me == op.root; }

  std::unique_ptr<Exchange> all_reduce();
  std::unique_ptr<Exchange> reduce();
  std::unique_ptr<Exchange> broadcast();
  std::unique_ptr<Exchange> all_gather();
  std::unique_ptr<Exchange> all_gather_v();
  std::unique_ptr<Exchange> reduce_scatter();
  std::unique_ptr<Exchange> all_to_all();
  std::unique_ptr<Exchange> gather();
  std::unique_ptr<Exchange> scatter();
};

std::vector<RingPlan::Share> even_shares(std::size_t count, std::size_t ranks) {
  constexpr std::size_t kAlign = 16;  // elements: shares begin on a cache line
  const std::size_t each = ((count + ranks - 1) / ranks + kAlign - 1) / kAlign * kAlign;
  std::vector<RingPlan::Share> shares;
  for (std::size_t i = 0; i < ranks; ++i) {
    const std::size_t begin = std::min(count, i * each);
    shares.push_back({begin, std::min(count, begin + each) - begin});
  }
  return shares;
}

std::vector<RingPlan::Share> equal_shares(std::size_t count, std::size_t ranks) {
  std::vector<RingPlan::Share> shares;
  for (std::size_t i = 0; i < ranks; ++i) shares.push_back({i * count, count});
  return shares;
}

std::unique_ptr<Exchange> Planner::all_reduce() {
  if (!small()) return ring(even_shares(op.count, ranks), true, true);
  const std::vector<std::span<const std::byte>> out(ranks, {input, bytes});
  return std::make_unique<DirectReduce>(
      std::move(team), DirectReduce::Plan{input, output, op.count, op.dtype, op.op, out, -1});
}

std::unique_ptr<Exchange> Planner::reduce() {
  if (bytes > wire::kInlineBytes)
    return std::make_unique<ChainReduce>(std::move(team), op.root, input, output, op.count, op.dtype, op.op,
                                         streams, slots);
  std::vector<std::span<const std::byte>> out(ranks);
  if (!root()) out[static_cast<std::size_t>(op.root)] = {input, bytes};
  return std::make_unique<DirectReduce>(
      std::move(team),
      DirectReduce::Plan{input, root() ? output : nullptr, op.count, op.dtype, op.op, out, op.root});
}

std::unique_ptr<Exchange> Planner::broadcast() {
  if (bytes > wire::kInlineBytes)
    return std::make_unique<ChainBroadcast>(std::move(team), op.root, output, bytes, streams);
  std::vector<Flow> flows = flows_around(op.root);
  for (Flow& flow : flows) {
    if (root()) flow.out = {output, bytes};
    if (flow.rank == team.rank_at(op.root)) flow.in = {output, bytes};
  }
  return direct(std::move(flows), bytes);
}

std::unique_ptr<Exchange> Planner::all_gather() {
  if (!small()) return ring(equal_shares(op.count, ranks), false, true);
  keep_own(input, share_of_output(team.me).data());
  std::vector<Flow> flows = flows_to_all();
  for (Flow& flow : flows) flow = {flow.rank, {input, bytes}, share_of_output(flow.rank)};
  return direct(std::move(flows), bytes);
}

std::unique_ptr<Exchange> Planner::all_gather_v() {
  std::vector<RingPlan::Share> shares;
  std::size_t offset = 0;
  for (const std::size_t count : op.counts) {
    shares.push_back({offset, count});
    offset += count;
  }
  return ring(std::move(shares), false, true);
}

std::unique_ptr<Exchange> Planner::reduce_scatter() {
  if (!small()) return ring(equal_shares(op.count, ranks), true, false);
  std::vector<std::span<const std::byte>> out;
  for (int i = 0; i < team.size(); ++i) out.push_back(share_of_input(i));
  const std::byte* own = out[static_cast<std::size_t>(team.me)].data();
  return std::make_unique<DirectReduce>(
      std::move(team), DirectReduce::Plan{own, output, op.count, op.dtype, op.op, std::move(out), -1});
}

std::unique_ptr<Exchange> Planner::all_to_all() {
  keep_own(share_of_input(team.me).data(), share_of_output(team.me).data());
  std::vector<Flow> flows = flows_to_all();
  for (Flow& flow : flows) flow = {flow.rank, share_of_input(flow.rank), share_of_output(flow.rank)};
  return direct(std::move(flows), bytes);
}

std::unique_ptr<Exchange> Planner::gather() {
  if (root()) keep_own(input, share_of_output(team.me).data());
  std::vector<Flow> flows = flows_around(op.root);
  for (Flow& flow : flows) {
    if (root()) flow.in = share_of_output(flow.rank);
    if (flow.rank == team.rank_at(op.root)) flow.out = {input, bytes};
  }
  return direct(std::move(flows), bytes);
}

std::unique_ptr<Exchange> Planner::scatter() {
  if (root()) keep_own(share_of_input(team.me).data(), output);
  std::vector<Flow> flows = flows_around(op.root);
  for (Flow& flow : flows) {
    if (root()) flow.out = share_of_input(flow.rank);
    if (flow.rank == team.rank_at(op.root)) flow.in = {output, bytes};
  }
  return direct(std::move(flows), bytes);
}

std::unique_ptr<Exchange> Planner::make() {
  switch (op.kind) {
    case OpKind::kAllReduce:
      return all_reduce();
    case OpKind::kBroadcast:
      return broadcast();
    case OpKind::kReduce:
      return reduce();
    case OpKind::kAllGather:
      return all_gather();
    case OpKind::kAllGatherV:
      return all_gather_v();
    case OpKind::kReduceScatter:
      return reduce_scatter();
    case OpKind::kAllToAll:
      return all_to_all();
    case OpKind::kGather:
      return gather();
    case OpKind::kScatter:
      return scatter();
    case OpKind::kSend:  // messages.h
    case OpKind::kRecv:
    case OpKind::kBarrier:
      break;
  }
  return direct(flows_to_all(), 0);
}

}  // namespace

std::unique_ptr<Exchange> plan(const Operation& operation, Team team, int streams, Slots& slots) {
  return Planner{operation, std::move(team), streams, slots}.make();
}

}  // namespace ddp::comm
