#include "libddp/comm/host/hierarchical.h"

#include <algorithm>

#include "libddp/comm/kernels/reduce_kernels.h"

namespace ddp::host {
namespace {

/// Per round and rank: what is copied in is still in the cache when it is taken.
constexpr std::size_t kRoundBytes = 512 << 10;
static_assert(kRoundBytes <= kStagingBytes);

bool is_16_bit(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

}  // namespace

struct Hierarchical::Lanes {
  std::vector<Slice> all;   ///< of the whole buffer, by lane
  Slice mine;               ///< this rank's, empty when it has none
  std::size_t element = 1;  ///< bytes
  bool in_place = false;    ///< every rank of this host sees the others' buffers
  std::byte* buffer = nullptr;
  [[nodiscard]] std::byte* at(std::size_t index) const { return buffer + index * element; }
  [[nodiscard]] std::size_t longest() const { return all.front().count(); }
};

Hierarchical::Hierarchical(const Topology& topology, const LocalMembers& members, ShmGroup* shm,
                           TcpGroup& tcp)
    : members_(members), shm_(shm), tcp_(tcp), world_size_(static_cast<int>(topology.names.size())) {
  std::size_t smallest = topology.hosts.front().size();
  for (const auto& host : topology.hosts) smallest = std::min(smallest, host.size());
  lanes_ = static_cast<int>(smallest);
  if (members.index >= lanes_) return;
  for (const auto& host : topology.hosts)
    lane_ranks_.push_back(host[static_cast<std::size_t>(members.index)]);
  std::sort(lane_ranks_.begin(), lane_ranks_.end());
}

void Hierarchical::all_reduce(const WaitContext& context) {
  const Operation& operation = context.operation;
  Lanes lanes;
  lanes.element = size_of(operation.dtype);
  lanes.buffer = static_cast<std::byte*>(operation.output);
  for (int i = 0; i < lanes_; ++i) lanes.all.push_back(slice_of(operation.count, lanes.element, i, lanes_));
  if (has_lane()) lanes.mine = lanes.all[static_cast<std::size_t>(members_.index)];
  if (shm_ != nullptr) {
    shm_->begin(context);
    lanes.in_place = true;
    for (int i = 0; i < local_size(); ++i)
      lanes.in_place = lanes.in_place && shm_->shared_output(i) != nullptr;
  }
  combine(context, lanes);
  if (has_lane()) exchange(context, lanes);
  if (shm_ != nullptr) spread(context, lanes);
}

/// Leaves the sum of this host in this rank's lane of its own buffer (16-bit types: in wide_). What it writes there
/// nobody else reads before spread().
void Hierarchical::combine(const WaitContext& context, const Lanes& lanes) {
  if (is_16_bit(context.operation.dtype)) wide_.resize(lanes.mine.count());
  const std::size_t line = std::max<std::size_t>(64 / lanes.element, 1);
  // Of each lane, per round; where nothing is staged, what stays in the cache.
  const std::size_t step = std::max(kRoundBytes / lanes.element / lanes.all.size() / line * line, line);
  for (std::size_t begin = 0; begin < lanes.longest(); begin += step) {
    const auto part = [&](const Slice& lane) {
      return Slice{std::min(lane.begin + begin, lane.end), std::min(lane.begin + begin + step, lane.end)};
    };
    if (shm_ != nullptr && !lanes.in_place) {
      for (std::size_t i = 0; i < lanes.all.size(); ++i) {
        const Slice other = part(lanes.all[i]);
        if (static_cast<int>(i) != members_.index && other.count() > 0)
          copy_bytes(shm_->staging(members_.index) + i * step * lanes.element, lanes.at(other.begin),
                     other.count() * lanes.element);
      }
      shm_->synchronise(context);
    }
    const Slice own = part(lanes.mine);
    if (own.count() > 0)
      combine_piece(context.operation, lanes, own, static_cast<std::size_t>(members_.index) * step);
    // The next round goes to the other area; this one is written again only after the next synchronisation.
    if (shm_ != nullptr && !lanes.in_place) shm_->flip();
  }
}

/// `staged_at`: of the piece in the others' staging, in elements.
void Hierarchical::combine_piece(const Operation& operation, const Lanes& lanes, Slice piece,
                                 std::size_t staged_at) {
  const double factor = operation.op == ReduceOp::kMean ? 1.0 / world_size_ : 1.0;
  inputs_.clear();
  for (int i = 0; i < local_size(); ++i)
    inputs_.push_back(i == members_.index ? lanes.at(piece.begin)
                      : lanes.in_place    ? shm_->shared_output(i) + piece.begin * lanes.element
                                          : shm_->staging(i) + staged_at * lanes.element);
  if (!is_16_bit(operation.dtype))
    return reduce(lanes.at(piece.begin), inputs_, piece.count(), operation.dtype, operation.op, factor);
  const ReduceOp op = operation.op == ReduceOp::kMean ? ReduceOp::kSum : operation.op;
  float* const sum = wide_.data() + (piece.begin - lanes.mine.begin);
  scratch_.resize(piece.count());
  widen(sum, inputs_[0], piece.count(), operation.dtype, static_cast<float>(factor));
  for (std::size_t i = 1; i < inputs_.size(); ++i) {
    widen(scratch_.data(), inputs_[i], piece.count(), operation.dtype, static_cast<float>(factor));
    const void* const both[] = {sum, scratch_.data()};
    reduce(sum, both, piece.count(), DType::kFloat32, op, 1.0);
  }
}

void Hierarchical::exchange(const WaitContext& context, const Lanes& lanes) {
  const Operation& operation = context.operation;
  const std::function<void()> check = [this] {
    if (shm_ != nullptr) shm_->sync().check_failure();
  };
  // Scaled already, before the sum within the host.
  const ReduceOp op = operation.op == ReduceOp::kMean ? ReduceOp::kSum : operation.op;
  std::byte* const result = lanes.at(lanes.mine.begin);
  const std::size_t count = lanes.mine.count();
  if (!is_16_bit(operation.dtype))
    return tcp_.all_reduce_among(lane_ranks_, result, count, operation.dtype, op, operation, check);
  tcp_.all_reduce_among(lane_ranks_, wide_.data(), count, DType::kFloat32, op, operation, check);
  narrow(result, wide_.data(), count, operation.dtype);
}

void Hierarchical::spread(const WaitContext& context, const Lanes& lanes) {
  lanes.in_place ? push(context, lanes) : pull(context, lanes);
}

/// Into the others' buffers, whose lane only this rank touches: whoever is through with its lane early does so while
/// the others still use the link.
void Hierarchical::push(const WaitContext& context, const Lanes& lanes) {
  const Slice& lane = lanes.mine;
  for (int i = 0; i < local_size(); ++i)
    if (i != members_.index && lane.count() > 0)
      copy_bytes(shm_->shared_output(i) + lane.begin * lanes.element, lanes.at(lane.begin),
                 lane.count() * lanes.element);
  shm_->synchronise(context);
}

void Hierarchical::pull(const WaitContext& context, const Lanes& lanes) {
  const std::size_t step = kRoundBytes / lanes.element;
  for (std::size_t begin = 0; begin < lanes.longest(); begin += step) {
    const auto part = [&](const Slice& lane) {
      return Slice{std::min(lane.begin + begin, lane.end), std::min(lane.begin + begin + step, lane.end)};
    };
    const Slice own = part(lanes.mine);
    if (own.count() > 0)
      copy_bytes(shm_->staging(members_.index), lanes.at(own.begin), own.count() * lanes.element);
    shm_->synchronise(context);
    for (int i = 0; i < lanes_; ++i) {
      const Slice other = part(lanes.all[static_cast<std::size_t>(i)]);
      if (i != members_.index && other.count() > 0)
        copy_bytes(lanes.at(other.begin), shm_->staging(i), other.count() * lanes.element);
    }
    shm_->flip();
  }
}

}  // namespace ddp::host
