// The reduction kernels, written once. Included by one .cpp per instruction set, which defines DDP_KERNELS
// (the name of its table) and is compiled with that set's flags.
//
// Everything here is in an unnamed namespace and calls no inline function of any library: a function with
// external linkage that was compiled for AVX-512 could otherwise be the copy the linker keeps for the whole
// program, and crash older CPUs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__F16C__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include <ddp/types.h>

#include "libddp/comm/kernels/kernel_table.h"

namespace ddp::comm {
namespace {

constexpr std::size_t kBlock = 512;  // elements accumulated in the first-level cache before they are stored

// --- 16-bit formats: widened by blocks, accumulated as float ---------------------------------------------------------

struct Half {
  static float to_float(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
    const std::uint32_t exponent = (h >> 10) & 0x1fu;
    std::uint32_t mantissa = h & 0x3ffu;
    std::uint32_t bits = 0;
    if (exponent == 0x1f) {
      bits = sign | 0x7f800000u | (mantissa << 13) | (mantissa != 0 ? 0x400000u : 0u);
    } else if (exponent != 0) {
      bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
    } else if (mantissa == 0) {
      bits = sign;
    } else {
      std::uint32_t shift = 0;
      while ((mantissa & 0x400u) == 0) mantissa <<= 1, ++shift;
      bits = sign | ((113 - shift) << 23) | ((mantissa & 0x3ffu) << 13);
    }
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
  }
  static std::uint16_t from_float(float f) {
    std::uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
    if (bits >= 0x477ff000u)
      return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and more round to infinity
    if (bits >= 0x38800000u)
      return static_cast<std::uint16_t>(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13));
    if (bits < 0x33000000u) return static_cast<std::uint16_t>(sign);  // below half of the smallest subnormal
    const std::uint32_t shift = 126 - (bits >> 23);
    const std::uint32_t mantissa = (bits & 0x7fffffu) | 0x800000u;
    const std::uint32_t low = mantissa & ((1u << shift) - 1);
    const std::uint32_t half = 1u << (shift - 1);
    std::uint32_t result = mantissa >> shift;
    result += static_cast<std::uint32_t>(low > half || (low == half && (result & 1u) != 0));
    return static_cast<std::uint16_t>(sign | result);
  }
  static void widen(float* out, const std::uint16_t* in, std::size_t n) {
    std::size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
      _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
#endif
    for (; i < n; ++i) out[i] = to_float(in[i]);
  }
  static void narrow(std::uint16_t* out, const float* in, std::size_t n) {
    std::size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= n; i += 8)
      _mm_storeu_si128(
          reinterpret_cast<__m128i*>(out + i),
          _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#endif
    for (; i < n; ++i) out[i] = from_float(in[i]);
  }
};

struct Brain {
  static void widen(float* out, const std::uint16_t* in, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint32_t bits = static_cast<std::uint32_t>(in[i]) << 16;
      std::memcpy(out + i, &bits, sizeof bits);
    }
  }
  static void narrow(std::uint16_t* out, const float* in, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t bits;
      std::memcpy(&bits, in + i, sizeof bits);
      const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
      const std::uint32_t nan = (bits >> 16) | 0x40u;
      out[i] = static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
    }
  }
};

// --- Formats: how a block gets into and out of accumulators ----------------------------------------------------------

template <class T>
struct Plain {
  using Element = T;
  using Accumulator = T;
  static void load(T* out, const T* in, std::size_t n) { std::memcpy(out, in, n * sizeof(T)); }
  static void store(T* out, const T* in, std::size_t n) { std::memcpy(out, in, n * sizeof(T)); }
};

template <class Conversion>
struct Widened {
  using Element = std::uint16_t;
  using Accumulator = float;
  static void load(float* out, const std::uint16_t* in, std::size_t n) { Conversion::widen(out, in, n); }
  static void store(std::uint16_t* out, const float* in, std::size_t n) { Conversion::narrow(out, in, n); }
};

// --- Operations ------------------------------------------------------------------------------------------------------

struct Sum {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a + b);
  }
};
struct Product {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a * b);
  }
  // 16-bit unsigned operands are promoted to int, whose overflow would be undefined.
  static std::uint16_t apply(std::uint16_t a, std::uint16_t b) {
    return static_cast<std::uint16_t>(static_cast<std::uint32_t>(a) * b);
  }
};
// Both keep a NaN, from whichever side it comes.
struct Min {
  template <class T>
  static T apply(T a, T b) {
    return a < b || a != a ? a : b;
  }
};
struct Max {
  template <class T>
  static T apply(T a, T b) {
    return a > b || a != a ? a : b;
  }
};
struct And {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a & b);
  }
};
struct Or {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a | b);
  }
};
struct Xor {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};

template <class T>
struct ComplexOf {
  T re, im;
  friend ComplexOf operator*(ComplexOf a, ComplexOf b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
};

template <class A>
void multiply(A* values, std::size_t n, A factor) {
  for (std::size_t i = 0; i < n; ++i) values[i] = values[i] * factor;
}

/// Accumulates block by block; `factor` is null for unscaled operations.
template <class Format, class Op>
void reduce_blocks(void* destination, const void* const* inputs, std::size_t n, std::size_t count,
                   const typename Format::Accumulator* factor) {
  using Element = typename Format::Element;
  using Accumulator = typename Format::Accumulator;
  Accumulator sum[kBlock];
  Accumulator next[kBlock];
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t size = count - begin < kBlock ? count - begin : kBlock;
    Format::load(sum, static_cast<const Element*>(inputs[0]) + begin, size);
    if (factor) multiply(sum, size, *factor);
    for (std::size_t k = 1; k < n; ++k) {
      Format::load(next, static_cast<const Element*>(inputs[k]) + begin, size);
      if (factor) multiply(next, size, *factor);
      for (std::size_t i = 0; i < size; ++i) sum[i] = Op::apply(sum[i], next[i]);
    }
    Format::store(static_cast<Element*>(destination) + begin, sum, size);
  }
}

/// The common case, two inputs of a plain type, without accumulators. The inputs may be the destination, hence no
/// restrict: each element is read before it is written, and `ivdep` says that no other element is concerned.
template <class T, class Op>
void reduce_two(T* destination, const T* a, const T* b, std::size_t count) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < count; ++i) destination[i] = Op::apply(a[i], b[i]);
}

template <class T, class Op>
void reduce_plain(void* destination, const void* const* inputs, std::size_t n, std::size_t count) {
  if (n == 2)
    return reduce_two<T, Op>(static_cast<T*>(destination), static_cast<const T*>(inputs[0]),
                             static_cast<const T*>(inputs[1]), count);
  if (n == 1) return reduce_blocks<Plain<T>, Op>(destination, inputs, n, count, nullptr);
  T sum[kBlock];
  for (std::size_t begin = 0; begin < count; begin += kBlock) {
    const std::size_t size = count - begin < kBlock ? count - begin : kBlock;
    const auto input = [&](std::size_t k) { return static_cast<const T*>(inputs[k]) + begin; };
    reduce_two<T, Op>(sum, input(0), input(1), size);
    for (std::size_t k = 2; k + 1 < n; ++k) reduce_two<T, Op>(sum, sum, input(k), size);
    reduce_two<T, Op>(static_cast<T*>(destination) + begin, sum, input(n - 1), size);
  }
}

// --- Dispatch --------------------------------------------------------------------------------------------------------

/// Sum and product of integers wrap, so they run on unsigned types of the same width.
template <class Op>
void reduce_modular(void* d, const void* const* in, std::size_t n, std::size_t count, std::size_t width) {
  switch (width) {
    case 1:
      return reduce_plain<std::uint8_t, Op>(d, in, n, count);
    case 2:
      return reduce_plain<std::uint16_t, Op>(d, in, n, count);
    case 4:
      return reduce_plain<std::uint32_t, Op>(d, in, n, count);
    default:
      return reduce_plain<std::uint64_t, Op>(d, in, n, count);
  }
}

template <class Op>
void reduce_ordered(void* d, const void* const* in, std::size_t n, std::size_t count, DType dtype) {
  switch (dtype) {
    case DType::kInt8:
      return reduce_plain<std::int8_t, Op>(d, in, n, count);
    case DType::kInt16:
      return reduce_plain<std::int16_t, Op>(d, in, n, count);
    case DType::kInt32:
      return reduce_plain<std::int32_t, Op>(d, in, n, count);
    case DType::kInt64:
      return reduce_plain<std::int64_t, Op>(d, in, n, count);
    case DType::kFloat32:
      return reduce_plain<float, Op>(d, in, n, count);
    case DType::kFloat64:
      return reduce_plain<double, Op>(d, in, n, count);
    case DType::kFloat16:
      return reduce_blocks<Widened<Half>, Op>(d, in, n, count, nullptr);
    case DType::kBFloat16:
      return reduce_blocks<Widened<Brain>, Op>(d, in, n, count, nullptr);
    default:
      return reduce_plain<std::uint8_t, Op>(d, in, n, count);
  }
}

template <class Op>
void reduce_floating(void* d, const void* const* in, std::size_t n, std::size_t count, DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return reduce_plain<float, Op>(d, in, n, count);
    case DType::kFloat64:
      return reduce_plain<double, Op>(d, in, n, count);
    case DType::kFloat16:
      return reduce_blocks<Widened<Half>, Op>(d, in, n, count, nullptr);
    default:
      return reduce_blocks<Widened<Brain>, Op>(d, in, n, count, nullptr);
  }
}

void reduce_mean(void* d, const void* const* in, std::size_t n, std::size_t count, DType dtype,
                 double factor) {
  const float single = static_cast<float>(factor);
  switch (dtype) {
    case DType::kFloat32:
      return reduce_blocks<Plain<float>, Sum>(d, in, n, count, &single);
    case DType::kFloat64:
      return reduce_blocks<Plain<double>, Sum>(d, in, n, count, &factor);
    case DType::kComplex64:
      return reduce_blocks<Plain<float>, Sum>(d, in, n, 2 * count, &single);
    case DType::kComplex128:
      return reduce_blocks<Plain<double>, Sum>(d, in, n, 2 * count, &factor);
    case DType::kFloat16:
      return reduce_blocks<Widened<Half>, Sum>(d, in, n, count, &single);
    default:
      return reduce_blocks<Widened<Brain>, Sum>(d, in, n, count, &single);
  }
}

bool is_floating(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16 || dtype == DType::kFloat32 ||
         dtype == DType::kFloat64;
}

/// Sums and products; a sum of bools is "any", a product "all".
template <class Op, class BoolOp>
void reduce_arithmetic(void* d, const void* const* in, std::size_t n, std::size_t count, DType dtype,
                       std::size_t width) {
  if (dtype == DType::kBool) return reduce_modular<BoolOp>(d, in, n, count, 1);
  if (is_floating(dtype)) return reduce_floating<Op>(d, in, n, count, dtype);
  return reduce_modular<Op>(d, in, n, count, width);
}

void reduce_any(void* d, const void* const* in, std::size_t n, std::size_t count, DType dtype,
                std::size_t width, ReduceOp op, double factor) {
  const bool complex64 = dtype == DType::kComplex64;
  const bool complex128 = dtype == DType::kComplex128;
  switch (op) {
    case ReduceOp::kMean:
      return reduce_mean(d, in, n, count, dtype, factor);
    case ReduceOp::kSum:
      if (complex64) return reduce_plain<float, Sum>(d, in, n, 2 * count);
      if (complex128) return reduce_plain<double, Sum>(d, in, n, 2 * count);
      return reduce_arithmetic<Sum, Or>(d, in, n, count, dtype, width);
    case ReduceOp::kProduct:
      if (complex64) return reduce_plain<ComplexOf<float>, Product>(d, in, n, count);
      if (complex128) return reduce_plain<ComplexOf<double>, Product>(d, in, n, count);
      return reduce_arithmetic<Product, And>(d, in, n, count, dtype, width);
    case ReduceOp::kMin:
      return reduce_ordered<Min>(d, in, n, count, dtype);
    case ReduceOp::kMax:
      return reduce_ordered<Max>(d, in, n, count, dtype);
    case ReduceOp::kBitAnd:
      return reduce_modular<And>(d, in, n, count, width);
    case ReduceOp::kBitOr:
      return reduce_modular<Or>(d, in, n, count, width);
    case ReduceOp::kBitXor:
      return reduce_modular<Xor>(d, in, n, count, width);
  }
}

void scale_any(void* data, std::size_t count, DType dtype, double factor) {
  const void* const input[] = {data};
  reduce_mean(data, input, 1, count, dtype, factor);
}

template <class Conversion>
void widen_scaled(float* destination, const void* source, std::size_t count, float factor) {
  Conversion::widen(destination, static_cast<const std::uint16_t*>(source), count);
  if (factor != 1.0f) multiply(destination, count, factor);
}

void widen_any(float* destination, const void* source, std::size_t count, DType dtype, float factor) {
  if (dtype == DType::kFloat16) return widen_scaled<Half>(destination, source, count, factor);
  return widen_scaled<Brain>(destination, source, count, factor);
}

void narrow_any(void* destination, const float* source, std::size_t count, DType dtype) {
  auto* out = static_cast<std::uint16_t*>(destination);
  if (dtype == DType::kFloat16) return Half::narrow(out, source, count);
  return Brain::narrow(out, source, count);
}

/// Not memcpy: for a copy of some kilobytes glibc takes `rep movsb`, which AMD processors run at a tenth of their speed
/// when source and destination lie at nearly the same offset in their pages; and they often do, because large blocks of
/// malloc begin 16 bytes into a page and shared memory at its start. (glibc bug 30994)
void copy_any(void* destination, const void* source, std::size_t bytes) {
#ifdef __AVX2__
  auto* to = static_cast<unsigned char*>(destination);
  const auto* from = static_cast<const unsigned char*>(source);
  for (; bytes >= 128; bytes -= 128, to += 128, from += 128) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
    const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 64));
    const __m256i d = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 96));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), b);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 64), c);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 96), d);
  }
  if (bytes > 0) std::memcpy(to, from, bytes);
#else
  if (bytes > 0) std::memcpy(destination, source, bytes);
#endif
}

}  // namespace

extern const KernelTable DDP_KERNELS;
const KernelTable DDP_KERNELS{reduce_any, scale_any, widen_any, narrow_any, copy_any};

}  // namespace ddp::comm
