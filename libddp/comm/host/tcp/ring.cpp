#include "libddp/comm/host/tcp/ring.h"

#include <algorithm>
#include <cstring>

namespace ddp::host {
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
      streams_(streams),
      slots_(slots),
      fold_(plan_.dtype, plan_.op, team_.size()),
      element_(size_of(plan_.dtype)),
      cut_(Cut::of(largest(plan_.shares), fold_.widest(), streams)),
      reducing_(plan_.reduce ? team_.size() - 1 : 0) {
  if (!plan_.reduce) return;
  const std::size_t chunks = cut_.chunks(largest(plan_.shares));
  const auto per_stream =
      (chunks + static_cast<std::size_t>(streams) - 1) / static_cast<std::size_t>(streams);
  slots_.prepare(streams, team_.size() == 2 ? 1 : per_stream + 1, cut_.elements * fold_.widest());
}

int Ring::share_sent(int step) const {
  return step < reducing_ ? team_.wrap(team_.me - 1 - step) : team_.wrap(team_.me - (step - reducing_));
}

Part Ring::part_of(int step, int share, std::size_t chunk) const {
  Part part;
  part.step = static_cast<std::uint32_t>(step);
  part.share = static_cast<std::uint32_t>(share);
  part.chunk = chunk;
  part.bytes = elements_of(part) * (step < reducing_ ? fold_.travelling(step) : element_);
  return part;
}

std::size_t Ring::elements_of(const Part& part) const {
  return cut_.size(part.chunk, plan_.shares[part.share].count);
}

std::byte* Ring::output_at(const Part& part) const {
  const std::size_t base = plan_.gather ? plan_.shares[part.share].offset : 0;
  return plan_.output + (base + part.chunk * cut_.elements) * element_;
}

void Ring::start(Mesh& mesh) {
  const auto& own = plan_.shares[static_cast<std::size_t>(team_.me)];
  std::byte* own_output = plan_.gather && own.count > 0 ? plan_.output + own.offset * element_ : nullptr;
  if (!plan_.reduce && own_output && own_output != plan_.input)
    std::memmove(own_output, plan_.input, own.count * element_);

  Peer& to = mesh.peer(team_.next());
  Peer& from = mesh.peer(team_.previous());
  const auto streams = static_cast<std::size_t>(streams_);
  const int first = share_sent(0);
  const auto& share = plan_.shares[static_cast<std::size_t>(first)];
  for (std::size_t chunk = 0; chunk < cut_.chunks(share.count); ++chunk) {
    Part part = part_of(0, first, chunk);
    part.data = plan_.reduce
                    ? const_cast<std::byte*>(plan_.input) + (share.offset + chunk * cut_.elements) * element_
                    : output_at(part);
    to.data[chunk % streams].queue_send(part);
  }
  for (int step = 0; step <= last_step(); ++step) {
    const int coming = share_received(step);
    const std::size_t chunks = cut_.chunks(plan_.shares[static_cast<std::size_t>(coming)].count);
    for (std::size_t chunk = 0; chunk < chunks; ++chunk)
      from.data[chunk % streams].queue_receive(part_of(step, coming, chunk));
  }
}

bool Ring::place(Part& part, int stream) {
  if (static_cast<int>(part.step) >= reducing_)
    part.data = output_at(part);
  else
    part.data = part.slot = slots_.take(stream);
  return part.data != nullptr;
}

void Ring::received(Mesh& mesh, int stream, const Part& part) {
  if (static_cast<int>(part.step) < reducing_) return combine(mesh, stream, part);
  if (static_cast<int>(part.step) == last_step()) return;
  Part onward = part;
  ++onward.step;
  mesh.peer(team_.next()).data[static_cast<std::size_t>(stream)].queue_send(onward);
}

void Ring::combine(Mesh& mesh, int stream, const Part& part) {
  const int step = static_cast<int>(part.step);
  const bool finished = step == reducing_ - 1;
  const auto& share = plan_.shares[part.share];
  const std::byte* own = plan_.input + (share.offset + part.chunk * cut_.elements) * element_;
  std::byte* output = finished ? output_at(part) : nullptr;
  fold_.combine(part.slot, own, output, elements_of(part), step);
  if (finished) slots_.give_back(stream, part.slot);
  if (finished && !plan_.gather) return;
  Part onward = part_of(step + 1, static_cast<int>(part.share), part.chunk);
  onward.data = finished ? output : part.slot;
  onward.slot = finished ? nullptr : part.slot;
  mesh.peer(team_.next()).data[static_cast<std::size_t>(stream)].queue_send(onward);
}

void Ring::sent(int stream, const Part& part) {
  if (part.slot) slots_.give_back(stream, part.slot);
}

}  // namespace ddp::host
