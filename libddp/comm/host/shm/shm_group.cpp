#include "libddp/comm/host/shm/shm_group.h"

#include <algorithm>

#include <ddp/error.h>

namespace ddp::host {
namespace {

/// FNV-1a over the counts of all_gatherv, which must be the same everywhere.
std::uint64_t hash_of(const std::vector<std::size_t>& counts) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::size_t count : counts) hash = (hash ^ count) * 0x100000001b3;
  return hash;
}

bool agree(const Announcement& a, const Announcement& b) {
  if (a.sequence != b.sequence || a.kind != b.kind || a.tag != b.tag) return false;
  if (static_cast<OpKind>(a.kind) == OpKind::kBarrier) return true;
  const bool same_count = static_cast<OpKind>(a.kind) == OpKind::kAllGatherV ? a.counts_hash == b.counts_hash
                                                                             : a.count == b.count;
  return same_count && a.dtype == b.dtype && a.op == b.op && a.root == b.root;
}

Operation as_operation(const Announcement& announcement) {
  Operation operation;
  operation.kind = static_cast<OpKind>(announcement.kind);
  operation.dtype = static_cast<DType>(announcement.dtype);
  operation.op = static_cast<ReduceOp>(announcement.op);
  operation.root = announcement.root;
  operation.count = announcement.count;
  operation.tag = announcement.tag;
  operation.sequence = announcement.sequence;
  return operation;
}

}  // namespace

Slice slice_of(std::size_t count, std::size_t element_bytes, int i, int n) {
  const std::size_t line = std::max<std::size_t>(64 / element_bytes, 1);
  const auto parts = static_cast<std::size_t>(n);
  const std::size_t share = ((count + parts - 1) / parts + line - 1) / line * line;
  const auto index = static_cast<std::size_t>(i);
  return {std::min(index * share, count), std::min((index + 1) * share, count)};
}

ShmGroup::ShmGroup(const LocalMembers& members, const std::vector<RankName>& names, Failure& failure)
    : members_(members),
      names_(names),
      sync_(members, names, failure),
      shared_inputs_(members.ranks.size()),
      shared_outputs_(members.ranks.size()) {}

void ShmGroup::run(const WaitContext& context) {
  switch (context.operation.kind) {
    case OpKind::kBarrier:
      return begin(context);
    case OpKind::kAllReduce:
    case OpKind::kReduce:
      return all_reduce(context);
    default:
      return pull(context);
  }
}

void ShmGroup::begin(const WaitContext& context) {
  announce(context.operation);
  sync_.arrive();
  sync_.wait_all(context);
  check_agreement();
  for (int i = 0; i < size(); ++i) {
    shared_inputs_[static_cast<std::size_t>(i)] = mapped(i, announced(i).input);
    shared_outputs_[static_cast<std::size_t>(i)] = mapped(i, announced(i).output);
  }
}

void ShmGroup::synchronise(const WaitContext& context) {
  sync_.arrive();
  sync_.wait_all(context);
}

void ShmGroup::announce(const Operation& operation) {
  announced_ = sync_.next() & 1u;
  Announcement& mine = members_.rank(members_.index).announcements[announced_];
  mine.sequence = operation.sequence;
  mine.count = operation.count;
  mine.tag = operation.tag;
  mine.counts_hash = operation.kind == OpKind::kAllGatherV ? hash_of(operation.counts) : 0;
  mine.input = operation.input == nullptr
                   ? kNotShared
                   : members_.arena->offset_of(operation.input, 1).value_or(kNotShared);
  mine.output = operation.output == nullptr
                    ? kNotShared
                    : members_.arena->offset_of(operation.output, 1).value_or(kNotShared);
  mine.root = operation.root;
  mine.kind = static_cast<std::uint8_t>(operation.kind);
  mine.dtype = static_cast<std::uint8_t>(operation.dtype);
  mine.op = static_cast<std::uint8_t>(operation.op);
}

const Announcement& ShmGroup::announced(int index) const {
  return members_.rank(index).announcements[announced_];
}

/// Compares with the lowest rank, so that every rank finds the same two sides.
void ShmGroup::check_agreement() const {
  const Announcement& first = announced(0);
  for (int i = 1; i < size(); ++i) {
    const Announcement& other = announced(i);
    if (agree(first, other)) continue;
    const auto name = [&](int index) {
      return names_[static_cast<std::size_t>(members_.ranks[static_cast<std::size_t>(index)])];
    };
    throw MismatchError("ranks called different operations: " + describe(name(0)) + " called " +
                        describe(as_operation(first)) + ", " + describe(name(i)) + " called " +
                        describe(as_operation(other)) +
                        (first.kind == other.kind && first.counts_hash != other.counts_hash
                             ? "; every rank must be given the same counts of all ranks"
                             : "; all ranks must make the same calls in the same order"));
  }
}

std::byte* ShmGroup::mapped(int index, std::uint64_t offset) const {
  return offset == kNotShared ? nullptr : members_.bases[static_cast<std::size_t>(index)] + offset;
}

}  // namespace ddp::host
