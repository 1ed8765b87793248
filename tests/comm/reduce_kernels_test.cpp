#include "libddp/comm/kernels/reduce_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <complex>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "libddp/comm/kernels/kernel_table.h"

namespace ddp::host {
namespace {

constexpr DType kAll[] = {DType::kUInt8,     DType::kInt8,       DType::kInt16,   DType::kInt32,
                          DType::kInt64,     DType::kFloat16,    DType::kFloat32, DType::kFloat64,
                          DType::kComplex64, DType::kComplex128, DType::kBool,    DType::kBFloat16};
constexpr ReduceOp kOps[] = {ReduceOp::kSum,     ReduceOp::kMean,   ReduceOp::kMin,   ReduceOp::kMax,
                             ReduceOp::kProduct, ReduceOp::kBitAnd, ReduceOp::kBitOr, ReduceOp::kBitXor};

using Bytes = std::vector<std::uint8_t>;

/// Every bit pattern may occur, except that bools are 0 or 1.
Bytes random_values(DType dtype, std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(count * size_of(dtype));
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(dtype == DType::kBool ? random() & 1u : random());
  return bytes;
}

template <class T>
std::vector<T> reduced(std::vector<std::vector<T>> inputs, DType dtype, ReduceOp op, double factor = 1) {
  std::vector<const void*> pointers;
  for (const auto& input : inputs) pointers.push_back(input.data());
  std::vector<T> result(inputs[0].size());
  reduce(result.data(), pointers, result.size(), dtype, op, factor);
  return result;
}

TEST(ReduceKernels, EveryInstructionSetGivesTheSameBitsForAllTypesOperationsAndInputCounts) {
  const KernelSets sets = available_kernels();
  constexpr std::size_t kCount = 1237;  // neither a multiple of a vector nor of a block
  for (const DType dtype : kAll)
    for (const ReduceOp op : kOps)
      for (const std::size_t n : {1u, 2u, 3u, 5u}) {
        if (!supports(dtype, op)) continue;
        std::vector<Bytes> inputs;
        std::vector<const void*> pointers;
        for (unsigned k = 0; k < n; ++k) inputs.push_back(random_values(dtype, kCount, 17 * k + 1));
        for (const auto& input : inputs) pointers.push_back(input.data());
        Bytes expected(kCount * size_of(dtype));
        Bytes actual(expected.size());
        sets.sets[0].table->reduce(expected.data(), pointers.data(), n, kCount, dtype, size_of(dtype), op,
                                   0.25);
        for (std::size_t s = 1; s < sets.count; ++s) {
          sets.sets[s].table->reduce(actual.data(), pointers.data(), n, kCount, dtype, size_of(dtype), op,
                                     0.25);
          // NaN payloads of a sum of two NaNs follow the operand order the compiler chose: compare them as NaN only.
          if (dtype == DType::kComplex64 || dtype == DType::kComplex128) continue;
          std::size_t differing = 0;
          for (std::size_t i = 0; i < kCount; ++i) {
            const auto at = i * size_of(dtype);
            const bool same = std::memcmp(&expected[at], &actual[at], size_of(dtype)) == 0;
            bool both_nan = false;
            if (dtype == DType::kFloat32) {
              float a, b;
              std::memcpy(&a, &expected[at], 4), std::memcpy(&b, &actual[at], 4);
              both_nan = std::isnan(a) && std::isnan(b);
            } else if (dtype == DType::kFloat64) {
              double a, b;
              std::memcpy(&a, &expected[at], 8), std::memcpy(&b, &actual[at], 8);
              both_nan = std::isnan(a) && std::isnan(b);
            } else if (dtype == DType::kFloat16 || dtype == DType::kBFloat16) {
              float a, b;
              widen(&a, &expected[at], 1, dtype, 1), widen(&b, &actual[at], 1, dtype, 1);
              both_nan = std::isnan(a) && std::isnan(b);
            }
            differing += !same && !both_nan;
          }
          EXPECT_EQ(differing, 0u) << to_string(dtype) << ' ' << to_string(op) << " x" << n << ' '
                                   << sets.sets[s].name;
        }
      }
}

TEST(ReduceKernels, EveryHalfSurvivesWideningAndNarrowing) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    std::vector<std::uint16_t> all(1 << 16);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
    const KernelSets sets = available_kernels();
    for (std::size_t s = 0; s < sets.count; ++s) {
      std::vector<float> wide(all.size());
      std::vector<std::uint16_t> back(all.size());
      sets.sets[s].table->widen(wide.data(), all.data(), all.size(), dtype, 1);
      sets.sets[s].table->narrow(back.data(), wide.data(), all.size(), dtype);
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (std::isnan(wide[i])) continue;
        ASSERT_EQ(back[i], all[i]) << to_string(dtype) << ' ' << sets.sets[s].name;
      }
    }
  }
}

TEST(ReduceKernels, NarrowingRoundsToNearestEvenInEveryInstructionSet) {
  const KernelSets sets = available_kernels();
  std::mt19937 random(5);
  std::vector<float> values(200'003);
  for (auto& value : values) value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  for (float edge :
       {65519.0f, 65520.0f, 6.1035156e-5f, 5.9604645e-8f, 2.9802322e-8f, 2.9802326e-8f, 0.0f, -0.0f})
    values.push_back(edge), values.push_back(-edge);
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    std::vector<std::uint16_t> expected(values.size()), actual(values.size());
    sets.sets[0].table->narrow(expected.data(), values.data(), values.size(), dtype);
    for (std::size_t s = 1; s < sets.count; ++s) {
      sets.sets[s].table->narrow(actual.data(), values.data(), values.size(), dtype);
      for (std::size_t i = 0; i < values.size(); ++i)
        ASSERT_EQ(actual[i], expected[i]) << to_string(dtype) << ' ' << values[i] << ' ' << sets.sets[s].name;
    }
  }
}

TEST(ReduceKernels, SixteenBitSumsAccumulateInFp32AndRoundOnce) {
  // 256 + 1 + 1 in bf16 steps of 2: rounding after each addition would lose both ones.
  std::vector<std::uint16_t> big{0x4380}, one{0x3f80};
  EXPECT_EQ(reduced<std::uint16_t>({big, one, one}, DType::kBFloat16, ReduceOp::kSum)[0], 0x4381);
}

TEST(ReduceKernels, ReducesKnownValues) {
  EXPECT_EQ(reduced<float>({{1, 2}, {3, 5}, {10, 20}}, DType::kFloat32, ReduceOp::kSum),
            (std::vector<float>{14, 27}));
  EXPECT_EQ(reduced<float>({{1, 2}, {3, 6}}, DType::kFloat32, ReduceOp::kMean, 0.5),
            (std::vector<float>{2, 4}));
  EXPECT_EQ(reduced<double>({{1, 2}, {3, -6}}, DType::kFloat64, ReduceOp::kMin),
            (std::vector<double>{1, -6}));
  EXPECT_EQ(reduced<std::int8_t>({{-1, 127}, {3, 1}}, DType::kInt8, ReduceOp::kMax),
            (std::vector<std::int8_t>{3, 127}));
  EXPECT_EQ(reduced<std::int8_t>({{-1, 127}, {3, 1}}, DType::kInt8, ReduceOp::kSum),
            (std::vector<std::int8_t>{2, -128}));
  EXPECT_EQ(reduced<std::int16_t>({{-300}, {300}}, DType::kInt16, ReduceOp::kProduct)[0],
            static_cast<std::int16_t>(-90000));
  EXPECT_EQ(reduced<std::uint8_t>({{1, 0, 1}, {1, 1, 0}}, DType::kBool, ReduceOp::kSum),
            (std::vector<std::uint8_t>{1, 1, 1}));
  EXPECT_EQ(reduced<std::uint8_t>({{1, 0, 1}, {1, 1, 0}}, DType::kBool, ReduceOp::kProduct),
            (std::vector<std::uint8_t>{1, 0, 0}));
  EXPECT_EQ(reduced<std::int32_t>({{12}, {10}}, DType::kInt32, ReduceOp::kBitXor)[0], 6);
  using C = std::complex<float>;
  EXPECT_EQ(reduced<C>({{C(1, 2)}, {C(3, 4)}}, DType::kComplex64, ReduceOp::kProduct)[0], C(-5, 10));
}

TEST(ReduceKernels, MinAndMaxKeepNaNFromEitherSide) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const ReduceOp op : {ReduceOp::kMin, ReduceOp::kMax}) {
    const auto result = reduced<float>({{nan, 1}, {1, nan}}, DType::kFloat32, op);
    EXPECT_TRUE(std::isnan(result[0]) && std::isnan(result[1]));
  }
}

TEST(ReduceKernels, TheDestinationMayBeAnyOfTheInputs) {
  for (const std::size_t which : {0u, 1u, 2u}) {
    std::vector<std::vector<float>> inputs(3, std::vector<float>(1000));
    for (std::size_t k = 0; k < 3; ++k)
      for (std::size_t i = 0; i < 1000; ++i) inputs[k][i] = static_cast<float>(k * 1000 + i);
    const auto expected = reduced(inputs, DType::kFloat32, ReduceOp::kSum);
    const void* const pointers[] = {inputs[0].data(), inputs[1].data(), inputs[2].data()};
    reduce(inputs[which].data(), pointers, 1000, DType::kFloat32, ReduceOp::kSum, 1);
    EXPECT_EQ(inputs[which], expected);
  }
}

}  // namespace
}  // namespace ddp::host
