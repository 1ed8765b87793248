#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <thread>

#include <ddp/error.h>
#include <ddp/rendezvous.h>

namespace ddp {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

/// Sets a variable for one test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
  ~Variable() { ::unsetenv(name_); }

 private:
  const char* name_;
};

std::uint16_t free_port() {
  const StoreServer probe({.listen = {"127.0.0.1", 0}});
  return probe.port();
}

ClusterEnv rank_of(int rank, int world_size, std::string address, std::uint16_t port, int attempt = 0) {
  ClusterEnv env;
  env.launcher = Launcher::kPlain;
  env.rank = env.local_rank = rank;
  env.world_size = env.local_world_size = world_size;
  env.master_addr = std::move(address);
  env.master_port = port;
  env.restart_count = attempt;
  return env;
}

/// Every rank sets a key and reads all others'.
void meet(const std::string& address, std::uint16_t port, int attempt = 0) {
  std::vector<std::thread> ranks;
  for (int r = 0; r < 4; ++r)
    ranks.emplace_back([=] {
      const auto store = join_job(rank_of(r, 4, address, port, attempt), {.timeout = 20s});
      EXPECT_EQ(store->try_get("left by an earlier attempt", Deadline::in(10s)), std::nullopt);
      store->set(std::to_string(r), "here", Deadline::in(20s));
      for (int other = 0; other < 4; ++other)
        EXPECT_EQ(store->get(std::to_string(other), Deadline::in(20s)), "here");
    });
  for (auto& rank : ranks) rank.join();
}

TEST(JoinJob, RanksMeetAtRankZeroOverLoopbackAndOverAnAbstractSocket) {
  meet("127.0.0.1", free_port());
  meet("unix:@ddp-join-test-" + std::to_string(::getpid()), 0);
}

TEST(JoinJob, RanksOfOneHostMeetOnLoopbackWhateverTheHostIsCalled) {
  meet("some-name-nobody-resolves.invalid", free_port());
}

TEST(JoinJob, AnAttemptDoesNotSeeWhatAnEarlierOneLeft) {
  const StoreServer server({.listen = {"127.0.0.1", 0}});
  for (int attempt = 0; attempt < 2; ++attempt) {
    ClusterEnv env = rank_of(1, 2, "127.0.0.1", server.port(), attempt);
    env.launcher_hosts_store = true;
    const auto store = join_job(env, {.timeout = 10s});
    EXPECT_EQ(store->try_get("key", Deadline::in(10s)), std::nullopt);
    store->set("key", "value", Deadline::in(10s));
  }
}

TEST(JoinJob, ASingleProcessNeedsNoConnection) {
  const auto store = join_job(ClusterEnv{});
  store->set("key", "value", Deadline::in(1s));
  EXPECT_EQ(store->get("key", Deadline::in(1s)), "value");
}

TEST(JoinJob, SeveralHostsNeedATokenOrTheRiskAccepted) {
  ClusterEnv env = rank_of(1, 2, "node-a", 29500);
  env.node_count = 2;
  EXPECT_THAT([&] { (void)join_job(env, {.timeout = 100ms}); },
              ThrowsMessage<ConfigError>(AllOf(HasSubstr("DDP_JOB_TOKEN"), HasSubstr("DDP_JOB_TOKEN_FILE"),
                                               HasSubstr("DDP_ALLOW_INSECURE=1"))));
  const Variable accepted("DDP_ALLOW_INSECURE", "1");
  EXPECT_THROW((void)join_job(env, {.timeout = 100ms}), TimeoutError);
}

TEST(JoinJob, TheHostOfTheStoreWaitsForTheOthersToLeaveButNotForever) {
  const std::uint16_t port = free_port();
  auto host = join_job(rank_of(0, 2, "127.0.0.1", port), {.timeout = 10s, .linger = 200ms});
  const auto other = join_job(rank_of(1, 2, "127.0.0.1", port), {.timeout = 10s});
  const auto begin = Clock::now();
  host.reset();
  EXPECT_GE(Clock::now() - begin, 200ms);
  EXPECT_LT(Clock::now() - begin, 10s);
}

}  // namespace
}  // namespace ddp
