#include "libddp/comm/exchange/ring.h"

#include <algorithm>
#include <cstring>

namespace ddp::comm {
namespace {

std::size_t largest(const std::vector<RingPlan::Share>& shares) {
  std::size_t count = 0;
  for (const auto& share : shares) count = std::max(count, share.count);
  return count;
}

}  // namespace

Ring::Ring(Team team, RingPlan plan, int streams, Slots& slots)
    : team_(std::move(team)),
      plan_(std::move(plan)),
      slots_(slots),
      fold_(plan_.dtype, plan_.op, team_.size()),
      element_(size_of(plan_.dtype)),
      cut_(Cut::of(largest(plan_.shares), fold_.widest(), streams)),
      reducing_(plan_.reduce ? team_.size() - 1 : 0) {
  std::size_t parts = 0;
  for (int step = 0; step <= last_step(); ++step) {
    sent_before_.push_back(parts);
    parts += chunks_of(share_sent(step));
  }
}

std::size_t Ring::chunks_of(int share) const {
  return cut_.chunks(plan_.shares[static_cast<std::size_t>(share)].count);
}

int Ring::share_sent(int step) const {
  return step < reducing_ ? team_.wrap(team_.me - 1 - step) : team_.wrap(team_.me - (step - reducing_));
}

Part Ring::part_of(int step, int share, std::size_t chunk, std::size_t first) const {
  Part part;
  part.step = step;
  part.share = share;
  part.chunk = chunk;
  part.index = first + chunk;
  part.bytes = elements_of(part) * (step < reducing_ ? fold_.travelling(step) : element_);
  return part;
}

std::size_t Ring::elements_of(const Part& part) const {
  return cut_.size(part.chunk, plan_.shares[static_cast<std::size_t>(part.share)].count);
}

std::byte* Ring::output_at(const Part& part) const {
  const std::size_t base = plan_.gather ? plan_.shares[static_cast<std::size_t>(part.share)].offset : 0;
  return plan_.output + (base + part.chunk * cut_.elements) * element_;
}

void Ring::start(PartQueue& queue) {
  const auto& own = plan_.shares[static_cast<std::size_t>(team_.me)];
  std::byte* own_output = plan_.gather && own.count > 0 ? plan_.output + own.offset * element_ : nullptr;
  if (!plan_.reduce && own_output && own_output != plan_.input)
    std::memmove(own_output, plan_.input, own.count * element_);

  const int first = share_sent(0);
  const std::size_t begin = plan_.shares[static_cast<std::size_t>(first)].offset;
  for (std::size_t chunk = 0; chunk < chunks_of(first); ++chunk) {
    Part part = part_of(0, first, chunk, 0);
    part.data = plan_.reduce
                    ? const_cast<std::byte*>(plan_.input) + (begin + chunk * cut_.elements) * element_
                    : output_at(part);
    queue.send(team_.next(), part);
  }
  std::size_t expected = 0;
  for (int step = 0; step <= last_step(); ++step) {
    const int coming = share_received(step);
    for (std::size_t chunk = 0; chunk < chunks_of(coming); ++chunk)
      queue.expect(team_.previous(), part_of(step, coming, chunk, expected));
    expected += chunks_of(coming);
  }
}

bool Ring::place(Part& part) {
  part.data = part.step < reducing_ ? part.slot = slots_.take() : output_at(part);
  return true;
}

void Ring::received(PartQueue& queue, const Part& part) {
  if (part.step < reducing_) return combine(queue, part);
  if (part.step == last_step()) return;
  Part onward =
      part_of(part.step + 1, part.share, part.chunk, sent_before_[static_cast<std::size_t>(part.step) + 1]);
  onward.data = part.data;
  queue.send(team_.next(), onward);
}

void Ring::combine(PartQueue& queue, const Part& part) {
  const bool finished = part.step == reducing_ - 1;
  const auto& share = plan_.shares[static_cast<std::size_t>(part.share)];
  const std::byte* own = plan_.input + (share.offset + part.chunk * cut_.elements) * element_;
  std::byte* output = finished ? output_at(part) : nullptr;
  fold_.combine(part.slot, own, output, elements_of(part), part.step);
  if (finished) slots_.give_back(part.slot);
  if (finished && !plan_.gather) return;
  Part onward =
      part_of(part.step + 1, part.share, part.chunk, sent_before_[static_cast<std::size_t>(part.step) + 1]);
  onward.data = finished ? output : part.slot;
  onward.slot = finished ? nullptr : part.slot;
  queue.send(team_.next(), onward);
}

void Ring::sent(const Part& part) {
  if (part.slot) slots_.give_back(part.slot);
}

}  // namespace ddp::comm
