#include "libddp/comm/exchange/chain.h"

namespace ddp::comm {
namespace {

// A chain has an end, which always takes what comes: waiting for a slot cannot block it, and a few keep it busy.
constexpr std::size_t kSlotsPerStream = 4;

}  // namespace

ChainBroadcast::ChainBroadcast(Team team, int root, std::byte* data, std::size_t bytes, int streams)
    : team_(std::move(team)),
      position_(team_.wrap(team_.me - root)),
      data_(data),
      bytes_(bytes),
      cut_(Cut::of(bytes, 1, streams)) {}

void ChainBroadcast::start(PartQueue& queue) {
  for (std::size_t chunk = 0; chunk < cut_.chunks(bytes_); ++chunk) {
    Part part;
    part.chunk = chunk;
    part.data = data_ + chunk * cut_.elements;
    part.bytes = cut_.size(chunk, bytes_);
    part.index = chunk;
    if (position_ == 0)
      queue.send(team_.next(), part);
    else
      queue.expect(team_.previous(), part);
  }
}

void ChainBroadcast::received(PartQueue& queue, const Part& part) {
  if (position_ + 1 < team_.size()) queue.send(team_.next(), part);
}

ChainReduce::ChainReduce(Team team, int root, const std::byte* input, std::byte* output, std::size_t count,
                         DType dtype, ReduceOp op, int streams, Slots& slots)
    : team_(std::move(team)),
      position_(team_.wrap(team_.me - root - 1) + 1),
      input_(input),
      output_(output),
      count_(count),
      element_(size_of(dtype)),
      streams_(streams),
      slots_(slots),
      fold_(dtype, op, team_.size()),
      cut_(Cut::of(count, fold_.widest(), streams)) {}

Part ChainReduce::part_of(int step, std::size_t chunk) const {
  Part part;
  part.step = step;
  part.chunk = part.index = chunk;
  part.bytes = cut_.size(chunk, count_) * fold_.travelling(step);
  return part;
}

void ChainReduce::start(PartQueue& queue) {
  for (std::size_t chunk = 0; chunk < cut_.chunks(count_); ++chunk) {
    if (position_ == 1) {
      Part part = part_of(0, chunk);
      part.data = const_cast<std::byte*>(input_) + chunk * cut_.elements * element_;
      queue.send(team_.next(), part);
    } else {
      queue.expect(team_.previous(), part_of(position_ - 2, chunk));
    }
  }
}

bool ChainReduce::place(Part& part) {
  if (slots_.taken() >= kSlotsPerStream * static_cast<std::size_t>(streams_)) return false;
  part.data = part.slot = slots_.take();
  return true;
}

void ChainReduce::received(PartQueue& queue, const Part& part) {
  const std::size_t offset = part.chunk * cut_.elements * element_;
  fold_.combine(part.slot, input_ + offset, at_root() ? output_ + offset : nullptr,
                cut_.size(part.chunk, count_), part.step);
  if (at_root()) return slots_.give_back(part.slot);
  Part onward = part_of(part.step + 1, part.chunk);
  onward.data = onward.slot = part.slot;
  queue.send(team_.next(), onward);
}

void ChainReduce::sent(const Part& part) {
  if (part.slot) slots_.give_back(part.slot);
}

}  // namespace ddp::comm
