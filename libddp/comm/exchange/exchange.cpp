#include "libddp/comm/exchange/exchange.h"

#include <algorithm>
#include <set>

namespace ddp::comm {
namespace {

constexpr std::size_t kChunksPerStream = 4;

}  // namespace

std::vector<Exchange::Talk> neighbourly_talks(const Team& team, int hub) {
  std::set<int> ranks{team.next(), team.previous()};
  if (hub == team.me)
    ranks.insert(team.ranks.begin(), team.ranks.end());
  else if (hub >= 0)
    ranks.insert(team.rank_at(hub));
  ranks.erase(team.rank_at(team.me));
  std::vector<Exchange::Talk> talks;
  for (const int rank : ranks) talks.push_back({rank, {}, 0});
  return talks;
}

Cut Cut::of(std::size_t largest, std::size_t element_bytes, int streams) {
  const std::size_t even = largest * element_bytes / (static_cast<std::size_t>(streams) * kChunksPerStream);
  const std::size_t bytes = std::clamp(even, kSmallestChunk, kLargestChunk);
  return {std::max<std::size_t>(1, bytes / element_bytes)};
}

}  // namespace ddp::comm
