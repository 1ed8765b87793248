#include "libddp/comm/exchange/fold.h"

#include <array>
#include <cstring>

#include "libddp/comm/kernels/reduce_kernels.h"

namespace ddp::comm {
namespace {

bool is_wide(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

}  // namespace

Fold::Fold(DType dtype, ReduceOp op, int ranks)
    : dtype_(dtype),
      op_(op),
      partial_op_(op == ReduceOp::kMean ? ReduceOp::kSum : op),
      factor_(op == ReduceOp::kMean ? 1.0 / ranks : 1.0),
      element_(size_of(dtype)),
      partial_(is_wide(dtype) ? sizeof(float) : element_) {}

void Fold::combine(std::byte* slot, const std::byte* own, std::byte* output, std::size_t count, int step) {
  if (is_wide(dtype_) && !(step == 0 && output)) return combine_wide(slot, own, output, count, step);
  std::byte* destination = output ? output : slot;
  if (step == 0) {
    const std::array<const void*, 2> inputs{slot, own};
    return reduce(destination, inputs, count, dtype_, op_, factor_);
  }
  if (op_ == ReduceOp::kMean) {
    own_.resize(count * element_);
    std::memcpy(own_.data(), own, count * element_);
    scale(own_.data(), count, dtype_, factor_);
    own = own_.data();
  }
  const std::array<const void*, 2> inputs{slot, own};
  reduce(destination, inputs, count, dtype_, partial_op_, 1.0);
}

void Fold::combine_wide(std::byte* slot, const std::byte* own, std::byte* output, std::size_t count,
                        int step) {
  own_.resize(count * partial_);
  auto* wide_own = reinterpret_cast<float*>(own_.data());
  auto* partial = reinterpret_cast<float*>(slot);
  const auto factor = static_cast<float>(factor_);
  if (step == 0) {
    // What arrived is 16 bit wide and lies where its wide form has to go.
    widen(wide_own, slot, count, dtype_, factor);
    std::memcpy(partial, wide_own, count * partial_);
  }
  widen(wide_own, own, count, dtype_, factor);
  const std::array<const void*, 2> inputs{partial, wide_own};
  reduce(partial, inputs, count, DType::kFloat32, partial_op_, 1.0);
  if (output) narrow(output, partial, count, dtype_);
}

}  // namespace ddp::comm
