// Two nodes with nothing but a network between them: two network namespaces joined by a veth pair.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/launcher/nodes.h"

namespace ddp::testing {
namespace {

using ::testing::HasSubstr;

bool shell(const std::string& command) {
  return std::system((command + " > /dev/null 2>&1").c_str()) == 0;
}

class DdprunOverANetwork : public ::testing::Test {
 protected:
  DdprunOverANetwork() {
    const std::string id = std::to_string(::getpid());
    for (int node = 0; node < 2; ++node) {
      namespace_[node] = "ddprun" + id + (node == 0 ? "a" : "b");
      link_[node] = "ddp" + id + (node == 0 ? "a" : "b");
    }
  }
  void SetUp() override {
    if (!shell("ip netns add " + namespace_[0]))
      GTEST_SKIP() << "skipped: this machine does not permit network namespaces (ip netns add)";
    ASSERT_TRUE(shell("ip netns add " + namespace_[1]));
    ASSERT_TRUE(shell("ip link add " + link_[0] + " netns " + namespace_[0] + " type veth peer name " +
                      link_[1] + " netns " + namespace_[1]));
    for (int node = 0; node < 2; ++node) {
      const std::string ip = "ip -n " + namespace_[node];
      ASSERT_TRUE(shell(ip + " link set lo up"));
      ASSERT_TRUE(shell(ip + " addr add 10.77.0." + std::to_string(node + 1) + "/24 dev " + link_[node]));
      ASSERT_TRUE(shell(ip + " link set " + link_[node] + " up"));
    }
    nodes_.address = "10.77.0.1";
  }
  void TearDown() override {
    for (const auto& name : namespace_) shell("ip netns del " + name);
  }
  std::unique_ptr<DdprunProcess> start(int node, const std::vector<std::string>& program) {
    nodes_.setup.wrapper = {"ip", "netns", "exec", namespace_[node]};
    return nodes_.start(node, program);
  }

  std::string namespace_[2], link_[2];
  Nodes nodes_{2, {"--max-restarts=1", "--heartbeat-timeout=6", "--join-timeout=60"}};
};

TEST_F(DdprunOverANetwork, WorkersMeetAndRestart) {
  const auto zero = start(0, {TEST_WORKER, "join", "1"});
  const auto one = start(1, {TEST_WORKER, "join", "1"});
  EXPECT_EQ(zero->wait(), 0) << zero->err();
  EXPECT_EQ(one->wait(), 0) << one->err();
  EXPECT_EQ(count(one->out(), "rank 1 of 2 attempt 1\n"), 1);
}

TEST_F(DdprunOverANetwork, BothEndWhenTheCableIsCutAndMeetWhenItIsBack) {
  const auto zero = start(0, until_attempt(1));
  const auto one = start(1, until_attempt(1));
  ASSERT_TRUE(zero->saw(says(0, 0)));
  ASSERT_TRUE(one->saw(says(1, 0)));
  ASSERT_TRUE(shell("ip -n " + namespace_[1] + " link set " + link_[1] + " down"));
  ASSERT_TRUE(zero->saw("node 1 has been silent"));
  ASSERT_TRUE(one->saw("node 0 is lost"));
  ASSERT_TRUE(shell("ip -n " + namespace_[1] + " link set " + link_[1] + " up"));
  EXPECT_EQ(zero->wait(), 0) << zero->err();
  EXPECT_EQ(one->wait(), 0) << one->err();
  EXPECT_EQ(count(one->out(), says(1, 1)), 1);
}

}  // namespace
}  // namespace ddp::testing
