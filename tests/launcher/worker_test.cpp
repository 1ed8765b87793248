// libddp's side of the contract: workers find their ranks and meet in ddprun's store.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/launcher/ddprun_process.h"

namespace ddp::testing {
namespace {

class DdprunWorkers : public ::testing::TestWithParam<int> {};

TEST_P(DdprunWorkers, MeetInDdprunsStoreAndEachAttemptSeesAFreshOne) {
  const int workers = GetParam();
  const std::string all = std::to_string(workers);
  DdprunProcess job({"--nproc-per-node=" + all, "--max-restarts=2", TEST_WORKER, "join", "2"});
  EXPECT_EQ(job.wait(), 0) << job.err();
  for (int rank = 0; rank < workers; ++rank)
    for (int attempt = 0; attempt <= 2; ++attempt)
      EXPECT_EQ(count(job.out(), "rank " + std::to_string(rank) + " of " + all + " attempt " +
                                     std::to_string(attempt) + "\n"),
                1);
}

INSTANTIATE_TEST_SUITE_P(Sizes, DdprunWorkers, ::testing::Values(1, 2, 8));

}  // namespace
}  // namespace ddp::testing
