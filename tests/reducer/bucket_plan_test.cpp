#include "libddp/reducer/bucket_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include <ddp/error.h>

namespace ddp {
namespace {
using testing::ElementsAre;

std::vector<int> parameters_of(const BucketLayout& bucket) {
  std::vector<int> result;
  for (const BucketSlot& slot : bucket.slots) result.push_back(slot.parameter);
  return result;
}

TEST(BucketPlan, TheLastLayerComesFirst) {
  EXPECT_THAT(backward_order(4), ElementsAre(3, 2, 1, 0));
  EXPECT_TRUE(backward_order(0).empty());
}

TEST(BucketPlan, ABucketIsClosedWhenItReachesItsLimitAndTheFirstLimitIsItsOwn) {
  const std::vector<GradientShape> parameters(6, {256, DType::kFloat32});  // 1 KiB each
  const auto plan = plan_buckets(parameters, backward_order(6), {.first_bytes = 1024, .cap_bytes = 3 * 1024});
  ASSERT_EQ(plan.size(), 3U);
  EXPECT_THAT(parameters_of(plan[0]), ElementsAre(5));
  EXPECT_THAT(parameters_of(plan[1]), ElementsAre(4, 3, 2));
  EXPECT_THAT(parameters_of(plan[2]), ElementsAre(1, 0));
}

TEST(BucketPlan, AParameterAboveTheCapIsNotSplit) {
  const std::vector<GradientShape> parameters{{1 << 20, DType::kFloat32}, {8, DType::kFloat32}};
  const auto plan = plan_buckets(parameters, backward_order(2), {.first_bytes = 16, .cap_bytes = 1024});
  ASSERT_EQ(plan.size(), 2U);
  EXPECT_EQ(plan[1].slots[0].count, std::size_t{1} << 20);
}

TEST(BucketPlan, DtypesDoNotShareABucketAndBucketsAreOrderedByTheirLastArrival) {
  const std::vector<GradientShape> parameters{
      {8, DType::kFloat32}, {8, DType::kFloat64}, {8, DType::kFloat64}, {8, DType::kFloat32}};
  const std::vector<int> order{0, 1, 2, 3};  // the fp32 bucket waits for parameter 3, the fp64 one only for 2
  const auto plan = plan_buckets(parameters, order, {});
  ASSERT_EQ(plan.size(), 2U);
  EXPECT_EQ(plan[0].dtype, DType::kFloat64);
  EXPECT_EQ(plan[1].dtype, DType::kFloat32);
}

TEST(BucketPlan, AnOrderThatIsNoPermutationIsRefused) {
  const std::vector<GradientShape> parameters(2, {8, DType::kFloat32});
  for (const std::vector<int>& order : {std::vector<int>{0}, {0, 0}, {0, 2}, {-1, 0}, {0, 1, 1}})
    EXPECT_THROW((void)plan_buckets(parameters, order, {}), Error);
}

TEST(BucketPlan, EveryParameterHasOnePlaceOfItsOwnWhateverTheSizes) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<GradientShape> parameters(random() % 40);
    for (GradientShape& p : parameters)
      p = {random() % 5000, random() % 3 == 0 ? DType::kBFloat16 : DType::kFloat32};
    std::vector<int> order = backward_order(parameters.size());
    std::shuffle(order.begin(), order.end(), random);
    std::multiset<int> placed;
    for (const BucketLayout& bucket :
         plan_buckets(parameters, order, {.first_bytes = 4096, .cap_bytes = 20000})) {
      std::size_t end = 0;
      for (const BucketSlot& slot : bucket.slots) {
        EXPECT_GE(slot.offset, end);
        EXPECT_EQ(slot.offset * size_of(bucket.dtype) % 64, 0U);
        EXPECT_EQ(slot.count, parameters[slot.parameter].count);
        EXPECT_EQ(bucket.dtype, parameters[slot.parameter].dtype);
        end = slot.offset + slot.count;
        placed.insert(slot.parameter);
      }
      EXPECT_LE(end, bucket.count);
    }
    EXPECT_EQ(placed.size(), parameters.size());
    EXPECT_EQ(std::set<int>(placed.begin(), placed.end()).size(), parameters.size());
  }
}

}  // namespace
}  // namespace ddp
