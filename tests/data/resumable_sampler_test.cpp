#include <ddp/data/resumable_sampler.h>
#include <ddp/error.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace ddp::data {
namespace {
using testing::ElementsAre;

std::vector<std::int64_t> whole_epoch(ResumableSampler& sampler, std::int64_t batch = 3) {
  std::vector<std::int64_t> all;
  for (auto next = sampler.next(batch); !next.empty(); next = sampler.next(batch))
    all.insert(all.end(), next.begin(), next.end());
  return all;
}

TEST(ResumableSampler, TheShuffleIsTheSameOnEveryPlatform) {
  ResumableSampler sampler(10, 0, 1, {.seed = 42});
  EXPECT_THAT(whole_epoch(sampler), ElementsAre(0, 6, 5, 1, 3, 9, 7, 8, 4, 2));
}

TEST(ResumableSampler, RanksShareAnEpochWithoutOverlap) {
  std::multiset<std::int64_t> seen;
  for (int rank = 0; rank < 4; ++rank) {
    ResumableSampler sampler(20, rank, 4, {.seed = 1});
    for (const auto index : whole_epoch(sampler)) seen.insert(index);
  }
  EXPECT_EQ(seen.size(), 20U);
  EXPECT_EQ(std::set<std::int64_t>(seen.begin(), seen.end()).size(), 20U);
}

TEST(ResumableSampler, AnUnevenSplitPadsDropsOrKeepsAsAsked) {
  const auto counts = [](UnevenSplit uneven) {
    std::vector<std::size_t> result;
    for (int rank = 0; rank < 3; ++rank) {
      ResumableSampler sampler(7, rank, 3, {.uneven = uneven});
      result.push_back(whole_epoch(sampler).size());
    }
    return result;
  };
  EXPECT_THAT(counts(UnevenSplit::kPad), ElementsAre(3, 3, 3));
  EXPECT_THAT(counts(UnevenSplit::kDrop), ElementsAre(2, 2, 2));
  EXPECT_THAT(counts(UnevenSplit::kKeep), ElementsAre(3, 2, 2));
}

TEST(ResumableSampler, EpochsDifferAndAreReproducible) {
  ResumableSampler a(50, 0, 1, {.seed = 5}), b(50, 0, 1, {.seed = 5});
  const auto first = whole_epoch(a);
  a.start_epoch(1);
  b.start_epoch(1);
  const auto second = whole_epoch(a);
  EXPECT_NE(first, second);
  EXPECT_EQ(second, whole_epoch(b));
}

TEST(ResumableSampler, GoesOnExactlyWhereTheSavedOneStopped) {
  ResumableSampler a(100, 1, 2, {.seed = 9}), b(100, 1, 2, {.seed = 9});
  a.start_epoch(3);
  (void)a.next(17);
  b.load_state(a.save_state());
  EXPECT_EQ(b.epoch(), 3);
  EXPECT_EQ(whole_epoch(a), whole_epoch(b));
}

TEST(ResumableSampler, AnotherWorldSizeContinuesAfterTheSameSamplesWhenTheyDealEvenly) {
  ResumableSampler two(100, 0, 2, {.seed = 9}), four(100, 0, 4, {.seed = 9}), three(100, 0, 3, {.seed = 9});
  (void)two.next(10);
  four.load_state(two.save_state());
  EXPECT_EQ(four.position(), 5);
  EXPECT_THROW(three.load_state(two.save_state()), ConfigError);
}

TEST(ResumableSampler, ForeignStatesAndOtherDataSetsAreRefused) {
  ResumableSampler sampler(10, 0, 1), other(11, 0, 1);
  for (const char* bad :
       {"", "x", "ddp-sampler 2 10 1 0 0 1 0 0", "ddp-sampler 1 10 1 0 0 0 0 0",
        "ddp-sampler 1 10 1 0 0 1 0 -4", "ddp-sampler 1 10 1 0 0 1 0 999999",
        "ddp-sampler 1 10 1 0 0 1 0 5 trailing", "ddp-sampler 1 10 1 0 0 2000000000 0 9223372036854775807"})
    EXPECT_THROW(sampler.load_state(bad), CorruptCheckpoint) << bad;
  EXPECT_THROW(sampler.load_state(other.save_state()), ConfigError);
}

TEST(ResumableSampler, ImpossibleSplitsAreRefused) {
  EXPECT_THROW(ResumableSampler(0, 0, 1), ConfigError);
  EXPECT_THROW(ResumableSampler(10, 2, 2), ConfigError);
  EXPECT_THROW(ResumableSampler(1, 0, 2, {.uneven = UnevenSplit::kDrop}), ConfigError);
}

}  // namespace
}  // namespace ddp::data
