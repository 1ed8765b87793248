// The workers' output through a real ddprun.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <sstream>

#include "tests/launcher/ddprun_process.h"
#include "tests/launcher/temporary_folder.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kWorkers = 8;
constexpr int kLines = 3000;

/// Every line of every worker once, in order, whole.
void expect_all_lines(const std::string& text) {
  std::vector<int> next(kWorkers, 0);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string prefix, rest;
    int rank = -1, number = -1;
    words >> prefix >> rank >> number;
    ASSERT_TRUE(words && rank >= 0 && rank < kWorkers) << line;
    ASSERT_EQ(prefix, "[" + std::to_string(rank) + "]");
    ASSERT_EQ(number, next[static_cast<std::size_t>(rank)]++);
    words >> rest;
    ASSERT_EQ(rest, std::string(static_cast<std::size_t>(number * 37 % 301), 'x'));
  }
  for (const int seen : next) EXPECT_EQ(seen, kLines);
}

TEST(DdprunOutput, LosesNothingAndKeepsLinesWhole) {
  DdprunProcess job({"--nproc-per-node=8", TEST_WORKER, "lines", std::to_string(kLines)});
  EXPECT_EQ(job.wait(), 0);
  expect_all_lines(job.out());
  EXPECT_EQ(job.err(), "");
}

TEST(DdprunOutput, KeepsLinesWholeWhenBothStreamsGoToTheSamePlace) {
  ProcessSetup setup;
  setup.in_child = [] { ::dup2(1, 2); };
  DdprunProcess job(
      {"--nproc-per-node=8", "sh", "-c", "[ $((RANK % 2)) = 0 ] || exec >&2; exec \"$0\" lines \"$1\"",
       TEST_WORKER, std::to_string(kLines)},
      setup);
  EXPECT_EQ(job.wait(), 0);
  expect_all_lines(job.out());
}

TEST(DdprunOutput, SeparatesTheStreamsAndOmitsThePrefixOnRequest) {
  DdprunProcess job({"--no-prefix", "sh", "-c", "echo out; echo err >&2; printf half"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out(), "out\nhalf\n");
  EXPECT_EQ(job.err(), "err\n");
}

TEST(DdprunOutput, GoesOnWhenAWorkerClosesItsStreams) {
  const TemporaryFolder folder;
  DdprunProcess job({"sh", "-c", "echo last; exec > /dev/null 2>&1; echo unseen; : > \"$0/went on\"; exit 0",
                     folder.path()});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out(), "[0] last\n");
  EXPECT_EQ(::access((folder.path() + "/went on").c_str(), F_OK), 0);
}

TEST(DdprunOutput, GivesItsStandardInputToTheFirstWorkerOnly) {
  ProcessSetup setup;
  setup.input = "a word\n";
  DdprunProcess job({"--nproc-per-node=3", "sh", "-c", "read word; echo \"read '$word'\""}, setup);
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(count(job.out(), "[0] read 'a word'\n"), 1);
  EXPECT_EQ(count(job.out(), "read ''\n"), 2);
}

TEST(DdprunOutput, LetsWorkersFinishWhenTheReaderIsGone) {
  ProcessSetup setup;
  setup.in_child = [] {
    int ends[2];
    if (::pipe(ends) != 0) ::_exit(97);
    ::dup2(ends[1], 1);
    ::close(ends[0]);
    ::close(ends[1]);
  };
  DdprunProcess job({"--nproc-per-node=2", TEST_WORKER, "lines", "5000"}, setup);
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(count(job.err(), "standard output cannot be written: Broken pipe"), 1);
}

TEST(DdprunOutput, LetsWorkersFinishWhenTheDiskIsFullAndTellsByItsExitCode) {
  const TemporaryFolder folder;
  ProcessSetup setup;
  setup.in_child = [] { ::dup2(::open("/dev/full", O_WRONLY), 1); };
  DdprunProcess job({"--nproc-per-node=2", "--log-dir", folder.path(), TEST_WORKER, "lines", "5000"}, setup);
  EXPECT_EQ(job.wait(), 1);
  EXPECT_THAT(folder.read("attempt_0/rank_1/stdout.log"), HasSubstr("1 4999 "));
  EXPECT_EQ(count(job.err(), "standard output cannot be written: No space left on device"), 1);
}

TEST(DdprunOutput, LetsWorkersFinishWithoutAnyStream) {
  const TemporaryFolder folder;
  ProcessSetup setup;
  setup.in_child = [] {
    for (int fd = 0; fd < 3; ++fd) ::close(fd);
  };
  DdprunProcess job({"--nproc-per-node=2", "--log-dir", folder.path(), TEST_WORKER, "lines", "100"}, setup);
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(folder.read("attempt_0/rank_1/stdout.log"), HasSubstr("1 99 "));
}

TEST(DdprunOutput, DoesNotKeepASignalWaitingForAReader) {
  ProcessSetup setup;
  setup.in_child = [] {
    int ends[2];
    if (::pipe(ends) != 0) ::_exit(97);
    ::dup2(ends[1], 1);  // nobody reads from ends[0], which stays open
    ::dup2(ends[0], 77);
  };
  DdprunProcess job(
      {"--nproc-per-node=2", "sh", "-c", "echo ready >&2; exec \"$0\" lines 100000", TEST_WORKER}, setup);
  ASSERT_TRUE(job.saw("ready", 2));
  job.signal(SIGTERM);
  EXPECT_EQ(job.wait(), 143);
  EXPECT_TRUE(job.nothing_left());
}

}  // namespace
}  // namespace ddp::testing
