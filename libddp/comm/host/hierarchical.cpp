#include "libddp/comm/host/hierarchical.h"

#include <algorithm>

#include "libddp/comm/host/reduce_kernels.h"

namespace ddp::host {
namespace {

bool is_16_bit(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

}  // namespace

/// What of the buffer is in staging at a time.
struct Hierarchical::Piece {
  std::byte* data = nullptr;  ///< in the caller's buffer
  std::size_t count = 0;
  Slice lane;  ///< this rank's, empty when it has none
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
  const std::size_t element = size_of(operation.dtype);
  const std::size_t per_piece = kStagingBytes / element;
  if (shm_ != nullptr) shm_->begin(context);
  for (std::size_t at = 0; at < operation.count || at == 0; at += per_piece) {
    Piece piece{static_cast<std::byte*>(operation.output) + at * element,
                std::min(per_piece, operation.count - at),
                {}};
    if (members_.index < lanes_) piece.lane = slice_of(piece.count, element, members_.index, lanes_);
    if (shm_ != nullptr) {
      if (piece.count > 0) copy_bytes(shm_->staging(members_.index), piece.data, piece.count * element);
      shm_->synchronise(context);
    }
    if (members_.index < lanes_) combine_lane(context, piece);
    if (shm_ == nullptr) continue;
    shm_->synchronise(context);
    for (int i = 0; i < lanes_; ++i) {
      const Slice lane = slice_of(piece.count, element, i, lanes_);
      if (lane.count() > 0)
        copy_bytes(piece.data + lane.begin * element, shm_->staging(i) + lane.begin * element,
                   lane.count() * element);
    }
    // The next piece goes to the other area; this one is written again only after two more synchronisations.
    shm_->flip();
  }
}

/// Leaves the result of this rank's lane in its staging (alone on its host: in the caller's buffer).
void Hierarchical::combine_lane(const WaitContext& context, const Piece& piece) {
  reduce_local(context.operation, piece);
  exchange_lane(context, piece);
}

void Hierarchical::reduce_local(const Operation& operation, const Piece& piece) {
  const std::size_t element = size_of(operation.dtype);
  const double factor = operation.op == ReduceOp::kMean ? 1.0 / world_size_ : 1.0;
  std::vector<const void*> inputs;
  for (int i = 0; i < local_size(); ++i)
    inputs.push_back((shm_ == nullptr ? piece.data : shm_->staging(i)) + piece.lane.begin * element);
  if (!is_16_bit(operation.dtype)) {
    void* result = const_cast<void*>(inputs[static_cast<std::size_t>(members_.index)]);
    reduce(result, inputs, piece.lane.count(), operation.dtype, operation.op, factor);
    return;
  }
  const ReduceOp op = operation.op == ReduceOp::kMean ? ReduceOp::kSum : operation.op;
  wide_.resize(piece.lane.count());
  scratch_.resize(piece.lane.count());
  widen(wide_.data(), inputs[0], piece.lane.count(), operation.dtype, static_cast<float>(factor));
  for (std::size_t i = 1; i < inputs.size(); ++i) {
    widen(scratch_.data(), inputs[i], piece.lane.count(), operation.dtype, static_cast<float>(factor));
    const void* const both[] = {wide_.data(), scratch_.data()};
    reduce(wide_.data(), both, wide_.size(), DType::kFloat32, op, 1.0);
  }
}

void Hierarchical::exchange_lane(const WaitContext& context, const Piece& piece) {
  const Operation& operation = context.operation;
  const std::function<void()> check = [this] {
    if (shm_ != nullptr) shm_->sync().check_failure();
  };
  // Scaled already, before the sum within the host.
  const ReduceOp op = operation.op == ReduceOp::kMean ? ReduceOp::kSum : operation.op;
  std::byte* const result = (shm_ == nullptr ? piece.data : shm_->staging(members_.index)) +
                            piece.lane.begin * size_of(operation.dtype);
  if (!is_16_bit(operation.dtype)) {
    tcp_.all_reduce_among(lane_ranks_, result, piece.lane.count(), operation.dtype, op, operation, check);
    return;
  }
  tcp_.all_reduce_among(lane_ranks_, wide_.data(), wide_.size(), DType::kFloat32, op, operation, check);
  narrow(result, wide_.data(), wide_.size(), operation.dtype);
}

}  // namespace ddp::host
