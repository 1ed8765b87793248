// Which gradient goes into which bucket, and where: pure arithmetic, no tensors, so that it can be tested to
// the last case.
//
//   auto plan = plan_buckets(parameters, backward_order(parameters.size()),
//                            {.first_bytes = 1 << 20, .cap_bytes = 25 << 20});
//
// Buckets are listed in the order in which they will be reduced: by the position in `order` of their last
// gradient to arrive.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include <ddp/types.h>

namespace ddp {

/// What the plan must know of a parameter.
struct GradientShape {
  std::size_t count = 0;  ///< elements
  DType dtype = DType::kFloat32;
};

struct BucketLimits {
  /// Of the bucket that is ready first: small, so that communication starts early.
  std::size_t first_bytes = std::size_t{1} << 20;
  /// Of the others. A parameter larger than this gets a bucket of its own.
  std::size_t cap_bytes = std::size_t{25} << 20;
};

/// A parameter's place in its bucket.
struct BucketSlot {
  int parameter = 0;       ///< index into the parameters
  std::size_t offset = 0;  ///< in elements, a multiple of 64 bytes
  std::size_t count = 0;   ///< in elements
};

struct BucketLayout {
  DType dtype = DType::kFloat32;
  std::size_t count = 0;  ///< elements with padding
  std::vector<BucketSlot> slots;
};

/// Every parameter exactly once, never split, one dtype a bucket. `order` is a permutation of the parameter
/// indices: the order in which gradients are expected. Throws Error when it is not one.
[[nodiscard]] std::vector<BucketLayout> plan_buckets(std::span<const GradientShape> parameters,
                                                     std::span<const int> order, const BucketLimits& limits);

/// n-1 ... 0: backward meets the last layer first. The guess until the first backward has shown the real order.
[[nodiscard]] std::vector<int> backward_order(std::size_t n);

}  // namespace ddp
