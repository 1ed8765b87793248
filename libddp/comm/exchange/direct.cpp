#include "libddp/comm/exchange/direct.h"

#include <algorithm>
#include <cstring>

#include "libddp/comm/kernels/reduce_kernels.h"

namespace ddp::comm {

Direct::Direct(std::vector<Flow> flows, std::size_t largest, int streams)
    : flows_(std::move(flows)), inline_(largest <= wire::kInlineBytes), cut_(Cut::of(largest, 1, streams)) {}

std::vector<Exchange::Talk> Direct::talks() const {
  std::vector<Talk> talks;
  for (const Flow& flow : flows_) {
    if (inline_)
      talks.push_back({flow.rank, flow.out, flow.in.size()});
    else
      talks.push_back({flow.rank, {}, 0});
  }
  return talks;
}

void Direct::start(PartQueue& queue) {
  if (inline_) return;
  const auto cut_up = [&](std::byte* data, std::size_t bytes, auto add) {
    for (std::size_t chunk = 0; chunk < cut_.chunks(bytes); ++chunk) {
      Part part;
      part.index = chunk;
      part.data = data + chunk * cut_.elements;
      part.bytes = cut_.size(chunk, bytes);
      add(part);
    }
  };
  for (const Flow& flow : flows_) {
    cut_up(const_cast<std::byte*>(flow.out.data()), flow.out.size(),
           [&](const Part& part) { queue.send(flow.rank, part); });
    cut_up(flow.in.data(), flow.in.size(), [&](const Part& part) { queue.expect(flow.rank, part); });
  }
}

void Direct::heard(int rank, Heard& heard) {
  if (heard.payload.empty()) return;
  const auto flow = std::find_if(flows_.begin(), flows_.end(), [&](const Flow& f) { return f.rank == rank; });
  std::memcpy(flow->in.data(), heard.payload.data(), heard.payload.size());
}

DirectReduce::DirectReduce(Team team, Plan plan)
    : team_(std::move(team)), plan_(std::move(plan)), inputs_(team_.ranks.size()) {}

std::vector<Exchange::Talk> DirectReduce::talks() const {
  const std::size_t expected = plan_.output ? plan_.count * size_of(plan_.dtype) : 0;
  std::vector<Talk> talks;
  if (plan_.hub >= 0) {
    talks = neighbourly_talks(team_, plan_.hub);
  } else {
    for (int i = 0; i < team_.size(); ++i)
      if (i != team_.me) talks.push_back({team_.rank_at(i), {}, 0});
  }
  for (Talk& talk : talks) {
    const auto index = std::find(team_.ranks.begin(), team_.ranks.end(), talk.rank) - team_.ranks.begin();
    talk.payload = plan_.out[static_cast<std::size_t>(index)];
    talk.expected = expected;
  }
  return talks;
}

void DirectReduce::heard(int rank, Heard& heard) {
  const auto index = std::find(team_.ranks.begin(), team_.ranks.end(), rank) - team_.ranks.begin();
  inputs_[static_cast<std::size_t>(index)] = std::move(heard.payload);
}

void DirectReduce::finish() {
  if (!plan_.output || plan_.count == 0) return;
  std::vector<const void*> inputs;
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    inputs.push_back(static_cast<int>(i) == team_.me ? static_cast<const void*>(plan_.input)
                                                     : inputs_[i].data());
  reduce(plan_.output, inputs, plan_.count, plan_.dtype, plan_.op,
         plan_.op == ReduceOp::kMean ? 1.0 / team_.size() : 1.0);
}

}  // namespace ddp::comm
