// What ddprun returns, and what it says about it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "tests/launcher/ddprun_process.h"
#include "tests/launcher/temporary_folder.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(DdprunExitCode, IsZeroWhenAllWorkersSucceed) {
  DdprunProcess job({"--nproc-per-node=3", "true"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out() + job.err(), "");
}

TEST(DdprunExitCode, IsThatOfTheWorkerThatFailedFirstNotOfThoseKilledForIt) {
  // The others wait for ddprun's SIGTERM: one dies of it, one answers with a code of its own.
  const TemporaryFolder folder;
  DdprunProcess job({"--nproc-per-node=3", "sh", "-c",
                     "case $RANK in 0) exec sleep 1000;; "
                     "1) trap 'exit 4' TERM; : > \"$0/trapped\"; while :; do sleep 1; done;; "
                     "2) while ! [ -e \"$0/trapped\" ]; do :; done; exit 42;; esac",
                     folder.path()});
  EXPECT_EQ(job.wait(), 42);
  EXPECT_THAT(job.err(), AllOf(HasSubstr("rank 2 failed first: exit code 42"), Not(HasSubstr("rank 0")),
                               Not(HasSubstr("rank 1"))));
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunExitCode, Is128AndTheSignalThatKilledAWorker) {
  for (const auto& [name, code] : {std::pair("SEGV", 139), std::pair("KILL", 137), std::pair("TERM", 143)}) {
    DdprunProcess job({"--nproc-per-node=2", "sh", "-c",
                       std::string("[ $RANK = 0 ] && kill -") + name + " $$; sleep 1000"});
    EXPECT_EQ(job.wait(), code);
    EXPECT_THAT(job.err(), HasSubstr(std::string("rank 0 failed first: killed by SIG") + name));
  }
}

TEST(DdprunExitCode, ShowsTheLastWordsOfTheWorkerThatFailed) {
  DdprunProcess job(
      {"--nproc-per-node=2", "sh", "-c", "[ $RANK = 1 ] || sleep 1000; echo 'no such file' >&2; exit 3"});
  EXPECT_EQ(job.wait(), 3);
  EXPECT_THAT(job.err(), AllOf(HasSubstr("last lines of its stderr:\nddprun:   no such file\n"),
                               HasSubstr("pid "), HasSubstr("host ")));
}

TEST(DdprunExitCode, Is2ForBadOptions) {
  DdprunProcess job({"--nproc-per-node=many", "true"});
  EXPECT_EQ(job.wait(), 2);
  EXPECT_THAT(job.err(), HasSubstr("--nproc-per-node='many'"));
}

struct NotStarted {
  const char* name;
  std::string program;
  int code;
  const char* says;
};

TEST(DdprunExitCode, Is127Or126WhenTheProgramCannotBeStarted) {
  const TemporaryFolder folder;
  const NotStarted table[] = {
      {"missing", "no-such-program-anywhere", 127, "PATH"},
      {"missing path", folder.path() + "/missing", 127, "Is the path right"},
      {"not executable", folder.file("data", "x", false), 126, "chmod +x"},
      {"folder", folder.path(), 126, "Is a directory"},
      {"empty", folder.file("empty", "", true), 126, "interpreter"},
      {"rubbish",
       folder.file("rubbish",
                   "\x7f"
                   "ELF rubbish",
                   true),
       126, "interpreter"},
      {"no interpreter", folder.file("script", "#!/no/such/interpreter\n", true), 127, "interpreter"},
      {"python", folder.file("train.py", "print(1)\n", false), 126, "python3"}};
  for (const auto& row : table) {
    // Trying again would not help, so restarts are not used.
    DdprunProcess job({"--nproc-per-node=2", "--max-restarts=3", row.program});
    EXPECT_EQ(job.wait(), row.code) << row.name;
    EXPECT_THAT(job.err(), AllOf(HasSubstr(row.program), HasSubstr(row.says), Not(HasSubstr("restarting"))))
        << row.name;
    EXPECT_EQ(count(job.err(), "cannot start"), 1) << row.name;
  }
}

TEST(DdprunExitCode, StartsAScriptByItsInterpreter) {
  const TemporaryFolder folder;
  DdprunProcess job({folder.file("script", "#!/bin/sh\necho \"$1\"\n", true), "an argument"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out(), "[0] an argument\n");
}

TEST(DdprunExitCode, Is2WhenLogsCannotBeWrittenAndNothingWasStarted) {
  const TemporaryFolder folder;
  const std::string file = folder.file("file", "", false);
  DdprunProcess job({"--log-dir", file + "/logs", "sh", "-c", "echo started; sleep 1000"});
  EXPECT_EQ(job.wait(), 2);
  EXPECT_THAT(job.err(), AllOf(HasSubstr("--log-dir"), HasSubstr(file + "/logs/attempt_0/rank_0"),
                               HasSubstr("Not a directory")));
  EXPECT_EQ(job.out(), "");
}

TEST(DdprunExitCode, SaysThatThereAreTooFewDescriptorsAndLeavesNoWorker) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP()
      << "skipped: the undefined behaviour sanitizer looks at memory through a pipe, and reports an error "
         "of its own when there is no descriptor for one";
#endif
  ProcessSetup setup;
  setup.in_child = [] {
    const rlimit few{40, 40};
    ::setrlimit(RLIMIT_NOFILE, &few);
  };
  DdprunProcess job({"--nproc-per-node=64", "sh", "-c", "sleep 1000 & setsid sleep 1000"}, setup);
  EXPECT_EQ(job.wait(), 1);
  EXPECT_THAT(job.err(), AllOf(HasSubstr("Too many open files"), HasSubstr("ulimit -n")));
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunExitCode, DoesNotHandItsOwnRaisedLimitToWorkers) {
  ProcessSetup setup;
  setup.in_child = [] {
    const rlimit limit{64, 256};
    ::setrlimit(RLIMIT_NOFILE, &limit);
  };
  // 30 workers need more than 64 descriptors in ddprun.
  DdprunProcess job({"--nproc-per-node=30", "sh", "-c", "ulimit -Sn; ulimit -Hn"}, setup);
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(count(job.out(), "] 64\n"), 30);
  EXPECT_EQ(count(job.out(), "] 256\n"), 30);
}

}  // namespace
}  // namespace ddp::testing
