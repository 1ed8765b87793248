#include "libddp/comm/host/shm/lanes.h"

#include <algorithm>

#include <ddp/error.h>

#include "libddp/comm/host/shm/futex.h"
#include "libddp/comm/kernels/reduce_kernels.h"

namespace ddp::host {
namespace {

void publish(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers, std::uint32_t value) {
  word.store(value, std::memory_order_seq_cst);
  if (sleepers.load(std::memory_order_seq_cst) != 0) futex_wake_all(word);
}

}  // namespace

int ShmLanes::index_of(int rank) const {
  const auto found = std::find(members_.ranks.begin(), members_.ranks.end(), rank);
  return found == members_.ranks.end() ? -1 : static_cast<int>(found - members_.ranks.begin());
}

LaneControl& ShmLanes::lane(int source, int destination) const {
  const int rank = members_.ranks[static_cast<std::size_t>(destination)];
  return *reinterpret_cast<LaneControl*>(members_.bases[static_cast<std::size_t>(source)] +
                                         lane_offset(rank));
}

std::byte* ShmLanes::slot(int source, int destination, std::uint32_t piece) const {
  return reinterpret_cast<std::byte*>(&lane(source, destination)) + 4096 +
         (piece % kLaneSlots) * kLaneSlotBytes;
}

/// At least one piece, so that empty messages are matched too.
void ShmLanes::send(const WaitContext& context) const {
  const Operation& operation = context.operation;
  const int to = index_of(operation.peer);
  LaneControl& control = lane(members_.index, to);
  const auto* data = static_cast<const std::byte*>(operation.input);
  std::size_t left = operation.count * size_of(operation.dtype);
  do {
    const std::uint32_t head = control.head.load(std::memory_order_relaxed);
    for (std::uint32_t tail; head - (tail = control.tail.load(std::memory_order_acquire)) >= kLaneSlots;)
      sync_.wait_change(control.tail, control.tail_sleepers, tail, to, context);
    const std::size_t bytes = std::min(left, kLaneSlotBytes);
    control.pieces[head % kLaneSlots] = {operation.sequence, operation.count, operation.tag, bytes,
                                         static_cast<std::uint8_t>(operation.dtype)};
    if (bytes > 0) copy_bytes(slot(members_.index, to, head), data, bytes);
    publish(control.head, control.head_sleepers, head + 1);
    data += bytes;
    left -= bytes;
  } while (left > 0);
}

void ShmLanes::recv(const WaitContext& context) const {
  const Operation& operation = context.operation;
  const int from = index_of(operation.peer);
  LaneControl& control = lane(from, members_.index);
  auto* data = static_cast<std::byte*>(operation.output);
  std::size_t left = operation.count * size_of(operation.dtype);
  do {
    const std::uint32_t tail = control.tail.load(std::memory_order_relaxed);
    while (control.head.load(std::memory_order_acquire) == tail)
      sync_.wait_change(control.head, control.head_sleepers, tail, from, context);
    const LaneControl::Piece piece = control.pieces[tail % kLaneSlots];
    check(piece, operation);
    const std::size_t bytes = std::min<std::size_t>(left, kLaneSlotBytes);
    if (bytes > 0) copy_bytes(data, slot(from, members_.index, tail), bytes);
    publish(control.tail, control.tail_sleepers, tail + 1);
    data += bytes;
    left -= bytes;
  } while (left > 0);
}

void ShmLanes::check(const LaneControl::Piece& piece, const Operation& operation) const {
  if (piece.sequence == operation.sequence && piece.count == operation.count && piece.tag == operation.tag &&
      piece.dtype == static_cast<std::uint8_t>(operation.dtype))
    return;
  Operation sent = operation;
  const int self = members_.ranks[static_cast<std::size_t>(members_.index)];
  sent.kind = OpKind::kSend;
  sent.peer = self;
  sent.sequence = piece.sequence;
  sent.count = piece.count;
  sent.tag = piece.tag;
  sent.dtype = static_cast<DType>(std::min<int>(piece.dtype, static_cast<int>(DType::kBFloat16)));
  throw MismatchError(
      "send and recv do not match: " + describe(names_[static_cast<std::size_t>(operation.peer)]) +
      " called " + describe(sent) + ", " + describe(names_[static_cast<std::size_t>(self)]) + " called " +
      describe(operation));
}

}  // namespace ddp::host
