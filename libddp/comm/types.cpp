#include <ddp/types.h>

namespace ddp {

std::size_t size_of(DType dtype) noexcept {
  static constexpr std::size_t kSizes[] = {1, 1, 2, 4, 8, 2, 4, 8, 8, 16, 1, 2};
  return kSizes[static_cast<int>(dtype)];
}

const char* to_string(DType dtype) noexcept {
  if (dtype > DType::kBFloat16) return "unknown dtype";
  static constexpr const char* kNames[] = {"uint8",     "int8",       "int16",   "int32",
                                           "int64",     "float16",    "float32", "float64",
                                           "complex64", "complex128", "bool",    "bfloat16"};
  return kNames[static_cast<int>(dtype)];
}

const char* to_string(ReduceOp op) noexcept {
  if (op > ReduceOp::kBitXor) return "unknown operation";
  static constexpr const char* kNames[] = {"sum",     "mean",    "min",    "max",
                                           "product", "bit_and", "bit_or", "bit_xor"};
  return kNames[static_cast<int>(op)];
}

bool supports(DType dtype, ReduceOp op) noexcept {
  if (dtype > DType::kBFloat16 || op > ReduceOp::kBitXor) return false;
  const bool complex = dtype == DType::kComplex64 || dtype == DType::kComplex128;
  const bool floating = dtype == DType::kFloat16 || dtype == DType::kBFloat16 || dtype == DType::kFloat32 ||
                        dtype == DType::kFloat64;
  switch (op) {
    case ReduceOp::kSum:
    case ReduceOp::kProduct:
      return true;
    case ReduceOp::kMean:
      return floating || complex;
    case ReduceOp::kMin:
    case ReduceOp::kMax:
      return !complex;
    default:
      return !floating && !complex;
  }
}

}  // namespace ddp
