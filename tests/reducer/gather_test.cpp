#include "libddp/reducer/gather.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <c10/util/complex.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include <ddp/error.h>

namespace ddp {
namespace {

TEST(FusedGather, ScalesManyItemsIntoTheirPlaces) {
  const std::vector<float> a{2, 4, 6}, b{8};
  std::vector<float> bucket(5, -1);
  const std::vector<GatherItem> items{{a.data(), bucket.data(), 3, DType::kFloat32},
                                      {b.data(), &bucket[4], 1, DType::kFloat32}};
  fused_gather(items, DType::kFloat32, 0.5);
  EXPECT_EQ(bucket, (std::vector<float>{1, 2, 3, -1, 4}));
}

TEST(FusedGather, AMissingGradientBecomesZeros) {
  std::vector<double> bucket(3, 7);
  fused_gather(std::vector<GatherItem>{{nullptr, bucket.data(), 2, DType::kFloat64}}, DType::kFloat64, 0.25);
  EXPECT_EQ(bucket, (std::vector<double>{0, 0, 7}));
}

TEST(FusedGather, AGradientThatIsInItsPlaceAlreadyIsScaledThereOnce) {
  std::vector<float> bucket{2, 4};
  const std::vector<GatherItem> items{{bucket.data(), bucket.data(), 2, DType::kFloat32}};
  fused_gather(items, DType::kFloat32, 0.5);
  EXPECT_EQ(bucket, (std::vector<float>{1, 2}));
  fused_gather(items, DType::kFloat32, 1.0);
  EXPECT_EQ(bucket, (std::vector<float>{1, 2}));
}

TEST(FusedGather, SixteenBitGradientsAreScaledInSinglePrecision) {
  const std::vector<c10::Half> half{c10::Half(65504.F)};
  std::vector<float> bucket(1);
  fused_gather(std::vector<GatherItem>{{half.data(), bucket.data(), 1, DType::kFloat16}}, DType::kFloat32,
               2.0);
  EXPECT_EQ(bucket[0], 131008.F);  // would be infinite in fp16
  std::vector<c10::BFloat16> narrow(1);
  fused_gather(std::vector<GatherItem>{{bucket.data(), narrow.data(), 1, DType::kFloat32}}, DType::kBFloat16,
               0.5);
  EXPECT_EQ(static_cast<float>(narrow[0]), static_cast<float>(c10::BFloat16(65504.F)));
}

TEST(FusedGather, LargeItemsAreCompleteWhateverTheThreads) {
  std::vector<float> source(1 << 18), bucket(1 << 18);
  std::iota(source.begin(), source.end(), 0.F);
  fused_gather(std::vector<GatherItem>{{source.data(), bucket.data(), source.size(), DType::kFloat32}},
               DType::kFloat32, 2.0);
  for (std::size_t i = 0; i < source.size(); ++i) ASSERT_EQ(bucket[i], 2 * source[i]);
}

TEST(FusedGather, IntegersAndMixesOfRealAndComplexAreRefused) {
  std::vector<c10::complex<float>> complex(1);
  std::vector<int> integers(1);
  EXPECT_THROW(fused_gather(std::vector<GatherItem>{{integers.data(), complex.data(), 1, DType::kInt32}},
                            DType::kInt32, 0.5),
               Error);
  EXPECT_THROW(fused_gather(std::vector<GatherItem>{{complex.data(), integers.data(), 1, DType::kComplex64}},
                            DType::kFloat32, 0.5),
               Error);
}

}  // namespace
}  // namespace ddp
