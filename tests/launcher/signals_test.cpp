// Signals to ddprun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>

#include "tests/launcher/ddprun_process.h"

namespace ddp::testing {
namespace {

using ::testing::HasSubstr;

class DdprunPassesOn : public ::testing::TestWithParam<std::pair<int, const char*>> {};

TEST_P(DdprunPassesOn, ItsSignalToEveryWorker) {
  const auto [signal, name] = GetParam();
  DdprunProcess job({"--nproc-per-node=3", TEST_WORKER, "tell"});
  ASSERT_TRUE(job.saw("ready", 3));
  job.signal(signal);
  EXPECT_TRUE(job.saw(std::string("got ") + name, 3));
  if (signal != SIGTERM) job.signal(SIGKILL);
  EXPECT_EQ(job.wait(), signal == SIGTERM ? 143 : 137);
  EXPECT_TRUE(job.nothing_left_soon());
}

INSTANTIATE_TEST_SUITE_P(Signals, DdprunPassesOn,
                         ::testing::Values(std::pair(SIGTERM, "SIGTERM"), std::pair(SIGINT, "SIGINT"),
                                           std::pair(SIGHUP, "SIGHUP"), std::pair(SIGQUIT, "SIGQUIT"),
                                           std::pair(SIGUSR1, "SIGUSR1"), std::pair(SIGUSR2, "SIGUSR2")),
                         [](const auto& info) { return std::string(info.param.second); });

TEST(DdprunSignals, ReturnTheirCodeEvenWhenWorkersEndWithZero) {
  DdprunProcess job(
      {"--nproc-per-node=2", "sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 1; done"});
  ASSERT_TRUE(job.saw("ready", 2));
  job.signal(SIGTERM);
  EXPECT_EQ(job.wait(), 143);
}

TEST(DdprunSignals, ReturnTheirCodeEvenWhenWorkersEndWithOne) {
  // As Python does on SIGINT: 1 would tell Kubernetes that the job has failed for good.
  DdprunProcess job({"sh", "-c", "trap 'exit 1' INT; echo ready; while :; do sleep 1; done"});
  ASSERT_TRUE(job.saw("ready"));
  job.signal(SIGINT);
  EXPECT_EQ(job.wait(), 130);
}

TEST(DdprunSignals, KillAfterTheGracePeriod) {
  DdprunProcess job({"--nproc-per-node=2", "--grace-period=0.3", TEST_WORKER, "ignore"});
  ASSERT_TRUE(job.saw("ready", 2));
  job.signal(SIGTERM);
  EXPECT_EQ(job.wait(), 143);
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunSignals, KillAtOnceWhenRepeated) {
  DdprunProcess job({"--nproc-per-node=2", "--grace-period=86400", "sh", "-c",
                     "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done"});
  ASSERT_TRUE(job.saw("ready", 2));
  job.signal(SIGTERM);
  ASSERT_TRUE(job.saw("asked", 2));
  job.signal(SIGTERM);
  EXPECT_EQ(job.wait(), 143);
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunSignals, LeaveNohupAlone) {
  ProcessSetup setup;
  setup.in_child = [] { ::signal(SIGHUP, SIG_IGN); };
  DdprunProcess job({"sh", "-c", "trap 'exit 0' USR1; echo ready; while :; do sleep 0.1; done"}, setup);
  ASSERT_TRUE(job.saw("ready"));
  job.signal(SIGHUP);
  job.signal(SIGUSR1);
  EXPECT_EQ(job.wait(), 0);
}

TEST(DdprunSignals, AreNotNeededFromChildrenOfAParentThatIgnoresThem) {
  ProcessSetup setup;
  setup.in_child = [] { ::signal(SIGCHLD, SIG_IGN); };
  DdprunProcess job({"--nproc-per-node=2", "sh", "-c", "exit 6"}, setup);
  EXPECT_EQ(job.wait(), 6);
}

/// "SigIgn:\t0000000080000000" of this process: what ignores some internal signal here does so in workers too.
std::string ignored_here() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("SigIgn:")) return line;
  return "no SigIgn line";
}

TEST(DdprunSignals, AreUnblockedAndNotIgnoredInWorkers) {
  DdprunProcess job({"sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(job.out(), HasSubstr("SigBlk:\t0000000000000000"));
  EXPECT_THAT(job.out(), HasSubstr(ignored_here()));
}

}  // namespace
}  // namespace ddp::testing
