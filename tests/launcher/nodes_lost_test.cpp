// Nodes that die, hang, come back, or come twice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/launcher/nodes.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

/// Both nodes' workers of attempt 0 run.
::testing::AssertionResult both_run(DdprunProcess& zero, DdprunProcess& one, int attempt = 0) {
  if (!zero.saw(says(0, attempt))) return ::testing::AssertionFailure() << zero.err();
  if (!one.saw(says(1, attempt))) return ::testing::AssertionFailure() << one.err();
  return ::testing::AssertionSuccess();
}

TEST(DdprunNodesLost, OneThatIsStartedAgainJoinsTheNextAttempt) {
  Nodes nodes(2, {"--max-restarts=1"});
  const auto zero = nodes.start(0, until_attempt(1));
  auto one = nodes.start(1, until_attempt(1));
  ASSERT_TRUE(both_run(*zero, *one));
  one->signal(SIGKILL);
  EXPECT_EQ(one->wait(), 137);
  one = nodes.start(1, until_attempt(1));
  EXPECT_EQ(one->wait(), 0) << one->err();
  EXPECT_EQ(zero->wait(), 0) << zero->err();
  EXPECT_EQ(count(one->out(), says(1, 1)), 1);
  EXPECT_THAT(zero->err(), HasSubstr("ddprun of node 1 was restarted"));
}

TEST(DdprunNodesLost, OneThatDoesNotComeBackIsNamed) {
  Nodes nodes(2, {"--max-restarts=1", "--heartbeat-timeout=6", "--join-timeout=8"});
  const auto zero = nodes.start(0, until_attempt(1));
  const auto one = nodes.start(1, until_attempt(1), {"--join-timeout=60"});
  ASSERT_TRUE(both_run(*zero, *one));
  one->signal(SIGKILL);
  EXPECT_EQ(zero->wait(), 1);
  EXPECT_THAT(zero->err(),
              AllOf(HasSubstr("node 1 has been silent"), HasSubstr("node 1 of 2 did not join attempt 1")));
  EXPECT_TRUE(zero->nothing_left());
}

TEST(DdprunNodesLost, NodeZeroEndsTheOthersWhenNoRestartIsLeft) {
  Nodes nodes(2);
  const auto zero = nodes.start(0, until_attempt(1));
  const auto one = nodes.start(1, until_attempt(1));
  ASSERT_TRUE(both_run(*zero, *one));
  zero->signal(SIGKILL);
  EXPECT_EQ(one->wait(), 1);
  EXPECT_THAT(one->err(), HasSubstr("node 0 is lost"));
  EXPECT_TRUE(one->nothing_left());
}

TEST(DdprunNodesLost, NodeZeroThatDoesNotComeBackEndsTheOthersAtTheJoinTimeout) {
  Nodes nodes(2, {"--max-restarts=3"});
  const auto zero = nodes.start(0, until_attempt(1));
  const auto one = nodes.start(1, until_attempt(1), {"--join-timeout=8"});
  ASSERT_TRUE(both_run(*zero, *one));
  zero->signal(SIGKILL);
  EXPECT_EQ(one->wait(), 1);
  EXPECT_THAT(one->err(), AllOf(HasSubstr("node 0 is lost"), HasSubstr("cannot reach the store")));
}

TEST(DdprunNodesLost, NodeZeroThatIsStartedAgainGoesOnWithTheNextAttempt) {
  Nodes nodes(2, {"--max-restarts=3"});
  auto zero = nodes.start(0, until_attempt(2));
  const auto one = nodes.start(1, until_attempt(2));
  ASSERT_TRUE(both_run(*zero, *one));
  for (int attempt = 1; attempt <= 2; ++attempt) {
    zero->signal(SIGKILL);
    EXPECT_EQ(zero->wait(), 137);
    zero = nodes.start(0, until_attempt(2));
    ASSERT_TRUE(both_run(*zero, *one, attempt));
  }
  EXPECT_EQ(zero->wait(), 0) << zero->err();
  EXPECT_EQ(one->wait(), 0) << one->err();
}

TEST(DdprunNodesLost, ComingBackDoesNotRefillTheRestarts) {
  Nodes nodes(2, {"--max-restarts=1"});
  const auto zero = nodes.start(0, until_attempt(9));
  auto one = nodes.start(1, until_attempt(9));
  for (int attempt = 0; attempt <= 1; ++attempt) {
    ASSERT_TRUE(both_run(*zero, *one, attempt));
    one->signal(SIGKILL);
    EXPECT_EQ(one->wait(), 137);
    one = nodes.start(1, until_attempt(9));
  }
  EXPECT_EQ(one->wait(), 1);
  EXPECT_EQ(zero->wait(), 1);
  EXPECT_EQ(count(zero->err(), "restarting all workers"), 1);
}

TEST(DdprunNodesLost, OneThatWasStoppedForLongIsLeftAndJoinsAgain) {
  Nodes nodes(2, {"--max-restarts=1", "--heartbeat-timeout=6"});
  const auto zero = nodes.start(0, until_attempt(1));
  const auto one = nodes.start(1, until_attempt(1));
  ASSERT_TRUE(both_run(*zero, *one));
  one->signal(SIGSTOP);
  ASSERT_TRUE(zero->saw("node 1 has been silent for 6 s"));
  one->signal(SIGCONT);
  EXPECT_EQ(zero->wait(), 0) << zero->err();
  EXPECT_EQ(one->wait(), 0) << one->err();
}

TEST(DdprunNodesLost, NodeZeroThatHangsIsGivenUp) {
  Nodes nodes(2, {"--heartbeat-timeout=6"});
  const auto zero = nodes.start(0, until_attempt(1));
  const auto one = nodes.start(1, until_attempt(1));
  ASSERT_TRUE(both_run(*zero, *one));
  zero->signal(SIGSTOP);
  EXPECT_EQ(one->wait(), 1);
  EXPECT_THAT(one->err(), HasSubstr("node 0 does not answer"));
  EXPECT_TRUE(one->nothing_left());
}

TEST(DdprunNodesLost, ASecondOneOfTheSameRankIsRefusedAndTheJobGoesOn) {
  Nodes nodes(2, {"--max-restarts=3"});
  const auto zero = nodes.start(0, {TEST_WORKER, "tell"});
  const auto one = nodes.start(1, {TEST_WORKER, "tell"});
  ASSERT_TRUE(one->saw("ready"));
  const auto second = nodes.start(1, {TEST_WORKER, "tell"});
  EXPECT_EQ(second->wait(), 2);
  EXPECT_THAT(second->err(), AllOf(HasSubstr("another ddprun holds --node-rank=1"),
                                   HasSubstr("/" + std::to_string(one->pid()) + "/")));
  one->signal(SIGUSR1);
  EXPECT_TRUE(one->saw("got SIGUSR1"));
  zero->signal(SIGTERM);
  EXPECT_EQ(zero->wait(), 143);
}

TEST(DdprunNodesLost, OfTwoOfTheSameRankStartedTogetherOneIsRefused) {
  Nodes nodes(2, {"--join-timeout=60"});
  // Longer than the second one watches whether the heart of the first beats.
  const auto one = nodes.start(1, {"sleep", "6"});
  const auto other = nodes.start(1, {"sleep", "6"});
  const auto zero = nodes.start(0, {"sleep", "6"});
  EXPECT_EQ(zero->wait(), 0) << zero->err();
  const int first = one->wait(), second = other->wait();
  EXPECT_EQ(std::min(first, second), 0) << one->err() << other->err();
  EXPECT_THAT(std::max(first, second), AnyOf(2, 1));
}

}  // namespace
}  // namespace ddp::testing
