// Several nodes that do what they should, and people who start them wrongly.
#include "tests/launcher/nodes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <thread>

#include <ddp/rendezvous.h>

#include "tests/launcher/temporary_folder.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::size_t threads(pid_t pid) {
  std::error_code ignored;
  const std::filesystem::directory_iterator entries("/proc/" + std::to_string(pid) + "/task", ignored);
  return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

TEST(DdprunNodes, FormOneJobWhoseWorkersMeetInTheStore) {
  Nodes nodes(3, {"--nproc-per-node=2", "--max-restarts=1"});
  std::vector<std::unique_ptr<DdprunProcess>> all;
  for (const int rank : {2, 0, 1}) all.push_back(nodes.start(rank, {TEST_WORKER, "join", "1"}));
  std::string out;
  for (auto& node : all) {
    EXPECT_EQ(node->wait(), 0) << node->err();
    EXPECT_TRUE(node->nothing_left());
    out += node->out();
  }
  for (int rank = 0; rank < 6; ++rank)
    for (int attempt = 0; attempt < 2; ++attempt)
      EXPECT_EQ(
          count(out, "rank " + std::to_string(rank) + " of 6 attempt " + std::to_string(attempt) + "\n"), 1);
}

TEST(DdprunNodes, RestartTogetherWhenAWorkerFailsAnywhere) {
  Nodes nodes(2, {"--nproc-per-node=2", "--max-restarts=2"});
  const auto zero = nodes.start(0, until_attempt(1));
  const auto one = nodes.start(1, {"sh", "-c",
                                   "echo rank $RANK attempt $TORCHELASTIC_RESTART_COUNT; "
                                   "[ $TORCHELASTIC_RESTART_COUNT = 1 ] || [ $RANK = 2 ] || exit 5; "
                                   "[ $TORCHELASTIC_RESTART_COUNT = 1 ] || exec sleep 1000"});
  EXPECT_EQ(zero->wait(), 0);
  EXPECT_EQ(one->wait(), 0);
  for (int rank = 0; rank < 2; ++rank) EXPECT_EQ(count(zero->out(), says(rank, 1)), 1);
  for (int rank = 2; rank < 4; ++rank) EXPECT_EQ(count(one->out(), says(rank, 1)), 1);
  EXPECT_THAT(zero->err(), AllOf(HasSubstr("ended by another node: rank 3"), HasSubstr("exit code 5")));
  EXPECT_THAT(one->err(), HasSubstr("rank 3 failed first"));
}

TEST(DdprunNodes, DoNotRestartWhenAWorkerSaysThatItWouldNotHelp) {
  Nodes nodes(2, {"--max-restarts=5"});
  const auto zero = nodes.start(0, {"sleep", "1000"});
  const auto one = nodes.start(1, {"sh", "-c", "exit 78"});
  EXPECT_EQ(zero->wait(), 78);
  EXPECT_EQ(one->wait(), 78);
  for (auto* node : {zero.get(), one.get()}) EXPECT_EQ(count(node->err(), "restarting"), 0);
}

TEST(DdprunNodes, AgreeOnTheExitCodeWhenRestartsAreUsedUp) {
  Nodes nodes(3, {"--max-restarts=1"});
  std::vector<std::unique_ptr<DdprunProcess>> all;
  for (int rank = 0; rank < 3; ++rank)
    all.push_back(nodes.start(
        rank, {"sh", "-c", "[ $RANK = 2 ] && exit $((40 + TORCHELASTIC_RESTART_COUNT)); exec sleep 1000"}));
  for (auto& node : all) {
    EXPECT_EQ(node->wait(), 41);
    EXPECT_EQ(count(node->err(), "restarting all workers"), 1) << node->err();
    EXPECT_TRUE(node->nothing_left());
  }
}

TEST(DdprunNodes, WaitForEachOtherAtTheEnd) {
  // Kubernetes takes the end of node 0 for the end of the job.
  const TemporaryFolder folder;
  Nodes nodes(2);
  const auto zero = nodes.start(0, {"sh", "-c", "echo done"});
  const auto one = nodes.start(1, {"sh", "-c", "until [ -e \"$0/go\" ]; do sleep 0.01; done", folder.path()});
  ASSERT_TRUE(zero->saw("done"));
  EXPECT_FALSE(zero->nothing_left());
  (void)folder.file("go", "", false);
  EXPECT_EQ(zero->wait(), 0);
  EXPECT_EQ(one->wait(), 0);
}

TEST(DdprunNodes, AllStopWhenOneIsStopped) {
  Nodes nodes(2);
  const auto zero = nodes.start(0, {TEST_WORKER, "tell"});
  const auto one = nodes.start(1, {TEST_WORKER, "tell"});
  ASSERT_TRUE(zero->saw("ready"));
  ASSERT_TRUE(one->saw("ready"));
  one->signal(SIGTERM);
  EXPECT_EQ(one->wait(), 143);
  EXPECT_EQ(zero->wait(), 143);
  EXPECT_THAT(zero->err(), HasSubstr("node 1 was stopped by SIGTERM"));
}

TEST(DdprunNodes, ObeySignalsWhileTheyTryToReachNodeZero) {
  Nodes nodes(2, {"--join-timeout=86400"});
  const auto one = nodes.start(1, {"true"});
  // The next thread is the one that connects. The thread sanitizer has one of its own from the start.
#ifdef __SANITIZE_THREAD__
  constexpr std::size_t kBefore = 2;
#else
  constexpr std::size_t kBefore = 1;
#endif
  const Deadline deadline = Deadline::in(kPatience);
  while (threads(one->pid()) <= kBefore && !deadline.passed()) std::this_thread::yield();
  one->signal(SIGTERM);
  EXPECT_EQ(one->wait(), 143);
  EXPECT_THAT(one->err(), HasSubstr("node 1 was stopped by SIGTERM while it waited for node 0"));
}

TEST(DdprunNodes, ObeySignalsWhileTheyWaitForOthers) {
  Nodes nodes(2, {"--join-timeout=86400"});
  const auto zero = nodes.start(0, {"true"});
  auto store =
      connect_store({"127.0.0.1", nodes.port()}, {nodes.setup.environment["DDP_JOB_TOKEN"], kPatience});
  store->wait("agent/0/here/0", Deadline::in(kPatience));
  zero->signal(SIGINT);
  EXPECT_THAT(store->get("agent/0/over", Deadline::in(kPatience)), HasSubstr("node 0 was stopped by SIGINT"));
  store.reset();  // node 0 waits until nobody is connected
  EXPECT_EQ(zero->wait(), 130);
}

TEST(DdprunNodes, ObeySignalsWhenOnlyOthersStillWork) {
  Nodes nodes(2);
  const auto zero = nodes.start(0, {"sh", "-c", "exec sleep 1000"});
  const auto one = nodes.start(1, {"sh", "-c", "echo done"});
  ASSERT_TRUE(one->saw("done"));
  one->signal(SIGTERM);
  EXPECT_EQ(one->wait(), 143);
  EXPECT_EQ(zero->wait(), 143);
}

TEST(DdprunNodes, NameTheNodeThatDoesNotCome) {
  Nodes nodes(4, {"--join-timeout=6"});
  const auto two = nodes.start(2, {"true"}, {"--join-timeout=60"});
  const auto zero = nodes.start(0, {"true"});
  EXPECT_EQ(zero->wait(), 1);
  EXPECT_EQ(two->wait(), 1);
  EXPECT_THAT(zero->err(), AllOf(HasSubstr("node 1, 3 of 4 did not join"), HasSubstr("--join-timeout")));
  EXPECT_THAT(two->err(), HasSubstr("node 1, 3 of 4 did not join"));
}

TEST(DdprunNodes, SayThatNodeZeroDoesNotCome) {
  Nodes nodes(2, {"--join-timeout=0.5"});
  const auto one = nodes.start(1, {"true"});
  EXPECT_EQ(one->wait(), 1);
  EXPECT_THAT(one->err(), AllOf(HasSubstr("127.0.0.1:"), HasSubstr("Connection refused")));
}

TEST(DdprunNodes, RefuseAnotherTokenAtOnce) {
  Nodes nodes(2, {"--join-timeout=86400"});
  const auto zero = nodes.start(0, {"true"});
  nodes.setup.environment["DDP_JOB_TOKEN"] = "the token of another job";
  const auto one = nodes.start(1, {"true"});
  EXPECT_EQ(one->wait(), 2);
  EXPECT_THAT(one->err(), AllOf(HasSubstr("another job token"), HasSubstr("DDP_JOB_TOKEN_FILE")));
  nodes.setup.environment.erase("DDP_JOB_TOKEN");
  nodes.setup.environment["DDP_ALLOW_INSECURE"] = "1";
  const auto none = nodes.start(1, {"true"});
  EXPECT_EQ(none->wait(), 2);
  EXPECT_THAT(none->err(), HasSubstr("the peer has a job token and this side has none"));
}

TEST(DdprunNodes, WantATokenOrConsent) {
  Nodes nodes(2);
  nodes.setup.environment.clear();
  EXPECT_EQ(nodes.start(0, {"true"})->wait(), 2);
  nodes.setup.environment["DDP_ALLOW_INSECURE"] = "1";
  const auto zero = nodes.start(0, {TEST_WORKER, "join"});
  const auto one = nodes.start(1, {TEST_WORKER, "join"});
  EXPECT_EQ(zero->wait(), 0) << zero->err();
  EXPECT_EQ(one->wait(), 0) << one->err();
}

TEST(DdprunNodes, RefuseDifferentOptions) {
  Nodes nodes(2, {"--join-timeout=86400"});
  const auto zero = nodes.start(0, {"true"}, {"--nproc-per-node=2"});
  const auto one = nodes.start(1, {"true"}, {"--nproc-per-node=3"});
  EXPECT_EQ(zero->wait(), 2);
  EXPECT_EQ(one->wait(), 2);
  for (const auto& error : {zero->err(), one->err()})
    EXPECT_THAT(error,
                AllOf(HasSubstr("node 1"), HasSubstr("--nproc-per-node=2"), HasSubstr("--nproc-per-node=3")));
}

TEST(DdprunNodes, DoNotRestartForAProgramThatIsMissingOnOneOfThem) {
  Nodes nodes(2, {"--max-restarts=5"});
  const auto zero = nodes.start(0, {"sleep", "1000"});
  const auto one = nodes.start(1, {"no-such-program-anywhere"});
  EXPECT_EQ(one->wait(), 127);
  EXPECT_EQ(zero->wait(), 127);
  EXPECT_THAT(zero->err(), AllOf(HasSubstr("node 1 cannot start 'no-such-program-anywhere'"),
                                 Not(HasSubstr("restarting"))));
}

TEST(DdprunNodes, SayThatThePortIsTaken) {
  Nodes nodes(2, {"--join-timeout=86400"});
  const StoreServer other_job({.listen = {"127.0.0.1", nodes.port()}});
  const auto zero = nodes.start(0, {"true"});
  EXPECT_EQ(zero->wait(), 1);
  EXPECT_THAT(zero->err(),
              AllOf(HasSubstr(std::to_string(nodes.port())), HasSubstr("Address already in use")));
}

}  // namespace
}  // namespace ddp::testing
