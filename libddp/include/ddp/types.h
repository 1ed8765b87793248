// Element types and reductions as the communicators know them: torch-free, fixed sizes, stable numbers (they
// travel on the wire).
#pragma once

#include <cstddef>
#include <cstdint>

namespace ddp {

enum class DType : std::uint8_t {
  kUInt8 = 0,
  kInt8 = 1,
  kInt16 = 2,
  kInt32 = 3,
  kInt64 = 4,
  kFloat16 = 5,
  kFloat32 = 6,
  kFloat64 = 7,
  kComplex64 = 8,
  kComplex128 = 9,
  kBool = 10,
  kBFloat16 = 11,
};

/// kMean is a sum of inputs each multiplied by 1/world size beforehand (floating point and complex only).
/// Bit operations: integers and bool. Min and max: not complex.
enum class ReduceOp : std::uint8_t { kSum, kMean, kMin, kMax, kProduct, kBitAnd, kBitOr, kBitXor };

/// Bytes of one element.
[[nodiscard]] std::size_t size_of(DType dtype) noexcept;
[[nodiscard]] const char* to_string(DType dtype) noexcept;
[[nodiscard]] const char* to_string(ReduceOp op) noexcept;
/// Whether `op` is defined for `dtype` (see ReduceOp).
[[nodiscard]] bool supports(DType dtype, ReduceOp op) noexcept;

}  // namespace ddp
