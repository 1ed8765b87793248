// Attempts of one node.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/launcher/ddprun_process.h"
#include "tests/launcher/temporary_folder.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(DdprunRestarts, TheWholeGroupWithTheNumberOfTheAttempt) {
  DdprunProcess job(
      {"--nproc-per-node=2", "--max-restarts=5", "sh", "-c",
       "echo attempt $TORCHELASTIC_RESTART_COUNT $DDP_RESTART_COUNT of $TORCHELASTIC_MAX_RESTARTS; "
       "[ $TORCHELASTIC_RESTART_COUNT = 2 ] && exit 0; [ $RANK = 1 ] && exit 9; sleep 1000"});
  EXPECT_EQ(job.wait(), 0);
  for (const char* line : {"[0] attempt 2 2 of 5\n", "[1] attempt 0 0 of 5\n", "[1] attempt 1 1 of 5\n",
                           "[1] attempt 2 2 of 5\n"})
    EXPECT_EQ(count(job.out(), line), 1) << line;
  EXPECT_THAT(job.err(),
              AllOf(HasSubstr("restart 1 of 5"), HasSubstr("restart 2 of 5"), Not(HasSubstr("restart 3"))));
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunRestarts, EndWithTheCodeOfTheLastFailureWhenUsedUp) {
  DdprunProcess job({"--max-restarts=2", "sh", "-c", "exit $((40 + TORCHELASTIC_RESTART_COUNT))"});
  EXPECT_EQ(job.wait(), 42);
  EXPECT_EQ(count(job.err(), "failed first"), 3);
  EXPECT_EQ(count(job.err(), "restarting"), 2);
}

TEST(DdprunRestarts, KillLeftoversOfTheFailedAttemptFirst) {
  const TemporaryFolder folder;
  DdprunProcess job(
      {"--max-restarts=1", "sh", "-c",
       "if [ $TORCHELASTIC_RESTART_COUNT = 0 ]; then setsid sleep 1000 & echo $! > \"$0/pid\"; exit 1; fi; "
       "if kill -0 $(cat \"$0/pid\") 2> /dev/null; then echo still there; else echo gone; fi",
       folder.path()});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out(), "[0] gone\n");
}

TEST(DdprunRestarts, ChooseAnotherMasterPort) {
  DdprunProcess job({"--max-restarts=1", "sh", "-c", "echo port $MASTER_PORT; exit 1"});
  EXPECT_EQ(job.wait(), 1);
  const std::string out = job.out();
  EXPECT_EQ(count(out, "port "), 2);
  EXPECT_EQ(count(out, "port 0\n"), 0);
}

TEST(DdprunRestarts, KillAWorkerThatIgnoresSigterm) {
  DdprunProcess job({"--nproc-per-node=2", "--grace-period=0.5", "sh", "-c",
                     "[ $RANK = 0 ] && exec \"$0\" ignore; until [ \"$(cat /proc/*/cmdline 2> /dev/null | tr "
                     "'\\0' ' ' | grep -c "
                     "\"$0 ignore\")\" != 0 ]; do :; done; exit 8",
                     TEST_WORKER});
  EXPECT_EQ(job.wait(), 8);
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunRestarts, NotWhenAWorkerSaysThatItWouldNotHelp) {
  DdprunProcess job(
      {"--nproc-per-node=2", "--max-restarts=5", "sh", "-c", "[ $RANK = 1 ] && exit 78; sleep 1000"});
  EXPECT_EQ(job.wait(), 78);
  EXPECT_EQ(count(job.err(), "restarting"), 0);
  EXPECT_THAT(job.err(), HasSubstr("says that a restart would not help"));
}

TEST(DdprunRestarts, NotAfterASignalToDdprun) {
  DdprunProcess job({"--nproc-per-node=2", "--max-restarts=5", TEST_WORKER, "tell"});
  ASSERT_TRUE(job.saw("ready", 2));
  job.signal(SIGTERM);
  EXPECT_EQ(job.wait(), 143);
  EXPECT_EQ(count(job.out(), "ready"), 2);
}

TEST(DdprunRestarts, KeepLogsOfEachAttemptAndRank) {
  const TemporaryFolder folder;
  DdprunProcess job({"--nproc-per-node=2", "--max-restarts=1", "--log-dir", folder.path() + "/logs", "sh",
                     "-c",
                     "echo out $RANK $TORCHELASTIC_RESTART_COUNT; echo err $RANK >&2; "
                     "[ $TORCHELASTIC_RESTART_COUNT = 1 ] || [ $RANK = 0 ] || exit 1"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(folder.read("logs/attempt_0/rank_1/stdout.log"), "out 1 0\n");
  EXPECT_EQ(folder.read("logs/attempt_1/rank_1/stdout.log"), "out 1 1\n");
  EXPECT_EQ(folder.read("logs/attempt_1/rank_0/stderr.log"), "err 0\n");
  EXPECT_THAT(job.out(), HasSubstr("[1] out 1 1\n"));
}

}  // namespace
}  // namespace ddp::testing
