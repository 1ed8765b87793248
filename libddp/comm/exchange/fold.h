// How partial results are combined on their way around a ring or along a chain. 16-bit floats travel as they
// are in the first step (they are inputs, not sums) and as fp32 from then on, and are rounded once, by the
// rank that takes the last step. For kMean every input is multiplied by 1/ranks as it enters the sum.
//
// One thread.
#pragma once

#include <cstddef>
#include <vector>

#include <ddp/types.h>

namespace ddp::comm {

class Fold {
 public:
  Fold(DType dtype, ReduceOp op, int ranks);

  /// Bytes of one element of what travels at `step`.
  [[nodiscard]] std::size_t travelling(int step) const { return step > 0 ? partial_ : element_; }
  /// The most bytes one element takes while it is combined.
  [[nodiscard]] std::size_t widest() const { return partial_; }

  /// Combines what arrived at `step`, in `slot`, with this rank's `own`. `output` null: the partial result
  /// stays in `slot`; otherwise this was the last step and the result goes there (it may be `own`).
  void combine(std::byte* slot, const std::byte* own, std::byte* output, std::size_t count, int step);

 private:
  void combine_wide(std::byte* slot, const std::byte* own, std::byte* output, std::size_t count, int step);

  DType dtype_;
  ReduceOp op_;
  ReduceOp partial_op_;  // kSum for kMean: later operands are scaled already
  double factor_;
  std::size_t element_;
  std::size_t partial_;
  std::vector<std::byte> own_;  // this rank's operand, widened or scaled
};

}  // namespace ddp::comm
