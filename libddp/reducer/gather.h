// The fused gather: many gradients, one pass each, scaled and cast into their places in a bucket.
#pragma once

#include <cstddef>
#include <span>

#include <ddp/types.h>

namespace ddp {

/// One gradient. A null source writes zeros.
struct GatherItem {
  /// `count` contiguous elements of source_dtype; may be the destination itself when the dtypes are equal.
  const void* source = nullptr;
  void* destination = nullptr;  ///< `count` elements of the bucket's dtype
  std::size_t count = 0;
  DType source_dtype = DType::kFloat32;
};

/// destination[i] = cast(source[i] * scale), multiplied in fp32 for 16-bit types and in the type itself
/// otherwise. Real and complex floating point; a cast is between real types or between complex types. Large
/// items are split over ATen's threads. Throws Error for other dtypes.
void fused_gather(std::span<const GatherItem> items, DType bucket_dtype, double scale);

}  // namespace ddp
