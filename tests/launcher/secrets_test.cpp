// Where the job token can be seen, and where not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "tests/launcher/ddprun_process.h"

namespace ddp::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kToken = "a token nobody else would think of";

TEST(DdprunToken, IsInNoArgumentAndNoEnvironmentOfAWorker) {
  ProcessSetup setup;
  setup.environment = {{"DDP_JOB_TOKEN", kToken}};
  DdprunProcess job({"--nproc-per-node=2", "sh", "-c",
                     "echo token $(cat $DDP_JOB_TOKEN_FILE); exec \"$0\" ignore", TEST_WORKER},
                    setup);
  ASSERT_TRUE(job.saw("ready", 2));
  EXPECT_EQ(count(job.out(), std::string("token ") + kToken), 2);
  int seen = 0;
  for (const pid_t pid : job.alive()) {
    EXPECT_THAT(proc_file(pid, "cmdline"), Not(HasSubstr(kToken)));
    if (pid == job.pid()) continue;
    ++seen;
    EXPECT_THAT(proc_file(pid, "environ"), Not(HasSubstr(kToken)));
  }
  EXPECT_EQ(seen, 2);
}

TEST(DdprunToken, CannotBeWrittenByAWorker) {
  DdprunProcess job(
      {"sh", "-c",
       "stat -Lc %a $DDP_JOB_TOKEN_FILE; if (: > $DDP_JOB_TOKEN_FILE) 2> /dev/null; then echo emptied; fi; "
       "test -s $DDP_JOB_TOKEN_FILE && echo kept"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(job.out(), HasSubstr("[0] 444\n"));
  EXPECT_THAT(job.out(), HasSubstr("[0] kept\n"));
}

TEST(DdprunToken, IsNotInTheDryRun) {
  ProcessSetup setup;
  setup.environment = {{"DDP_JOB_TOKEN", kToken}};
  DdprunProcess job({"--dry-run", "--nproc-per-node=2", "train", "two words"}, setup);
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(job.out(), Not(HasSubstr(kToken)));
  EXPECT_THAT(job.out(), HasSubstr("rank 1:"));
  EXPECT_THAT(job.out(), HasSubstr("train 'two words'\n"));
}

TEST(DdprunToken, IsTheOnlyDescriptorOfDdprunThatWorkersInherit) {
  ProcessSetup setup;
  setup.in_child = [] {
    ::close_range(3, ~0U, 0);
    ::dup2(0, 50);
  };
  DdprunProcess job({"--nproc-per-node=2", "sh", "-c", "exec ls -l /proc/self/fd"}, setup);
  EXPECT_EQ(job.wait(), 0);
  // Standard streams, the token, what ddprun was given by whoever started it, and the folder that ls reads.
  EXPECT_EQ(count(job.out(), " -> "), 2 * 6) << job.out();
  EXPECT_EQ(count(job.out(), " 50 -> "), 2);
  EXPECT_EQ(count(job.out(), "ddp-job-token"), 2);
}

}  // namespace
}  // namespace ddp::testing
