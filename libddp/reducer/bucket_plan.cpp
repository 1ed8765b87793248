#include "libddp/reducer/bucket_plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>

#include <ddp/error.h>

namespace ddp {
namespace {

void require_permutation(std::span<const int> order, std::size_t n) {
  std::vector<char> seen(n, 0);
  bool good = order.size() == n;
  for (std::size_t i = 0; good && i < n; ++i) {
    good = order[i] >= 0 && static_cast<std::size_t>(order[i]) < n && seen[order[i]] == 0;
    if (good) seen[order[i]] = 1;
  }
  if (!good)
    throw Error("bucket plan: the order of " + std::to_string(n) +
                " gradients does not name each of them once");
}

std::size_t padded(std::size_t count, DType dtype) {
  const std::size_t step = 64 / size_of(dtype);
  return (count + step - 1) / step * step;
}

}  // namespace

std::vector<BucketLayout> plan_buckets(std::span<const GradientShape> parameters, std::span<const int> order,
                                       const BucketLimits& limits) {
  require_permutation(order, parameters.size());
  std::vector<BucketLayout> closed;
  std::map<DType, BucketLayout> open;
  for (const int index : order) {
    const GradientShape& parameter = parameters[index];
    BucketLayout& bucket = open[parameter.dtype];
    bucket.dtype = parameter.dtype;
    bucket.slots.push_back({index, bucket.count, parameter.count});
    bucket.count += padded(parameter.count, parameter.dtype);
    const std::size_t limit = closed.empty() ? limits.first_bytes : limits.cap_bytes;
    if (bucket.count * size_of(bucket.dtype) >= limit) {
      closed.push_back(std::move(bucket));
      open.erase(parameter.dtype);
    }
  }
  // What is left over is ready when its own last gradient is, which may be before another's: restore that order.
  for (auto& [dtype, bucket] : open) closed.push_back(std::move(bucket));
  std::vector<int> position(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) position[order[i]] = static_cast<int>(i);
  std::ranges::sort(closed, {},
                    [&](const BucketLayout& bucket) { return position[bucket.slots.back().parameter]; });
  return closed;
}

std::vector<int> backward_order(std::size_t n) {
  std::vector<int> order(n);
  std::iota(order.rbegin(), order.rend(), 0);
  return order;
}

}  // namespace ddp
