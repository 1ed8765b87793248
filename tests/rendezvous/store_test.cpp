#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include <ddp/error.h>
#include <ddp/rendezvous.h>

namespace ddp {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Property;
using ::testing::ThrowsMessage;

constexpr const char* kToken = "a token for tests only";

Deadline soon() {
  return Deadline::in(20s);
}

/// One server and as many clients as a test asks for; or the store of a single process.
class StoreTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "memory") {
      shared_ = make_memory_store();
      return;
    }
    StoreServerOptions options;
    options.listen.address =
        GetParam() == "unix" ? "unix:@ddp-test-" + std::to_string(::getpid()) : GetParam();
    options.token = kToken;
    try {
      server_ = std::make_unique<StoreServer>(options);
    } catch (const RendezvousError& error) {
      if (GetParam() == "::1") GTEST_SKIP() << "no IPv6 loopback here: " << error.what();
      throw;
    }
    endpoint_ = {options.listen.address, server_->port()};
  }
  [[nodiscard]] std::shared_ptr<Store> client() const {
    return shared_ ? shared_ : connect_store(endpoint_, {.token = kToken, .timeout = 20s});
  }

  std::unique_ptr<StoreServer> server_;
  StoreEndpoint endpoint_;
  std::shared_ptr<Store> shared_;
};

INSTANTIATE_TEST_SUITE_P(Transports, StoreTest, ::testing::Values("memory", "127.0.0.1", "::1", "unix"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

TEST_P(StoreTest, GivesBackWhatWasSetIncludingBinaryAndEmptyValues) {
  const auto store = client();
  const std::string binary("\0\xff\n\x80", 4);
  store->set("binary", binary, soon());
  store->set("empty", "", soon());
  store->set("large", std::string(16 << 20, 'x'), soon());
  EXPECT_EQ(client()->get("binary", soon()), binary);
  EXPECT_EQ(store->try_get("empty", soon()), "");
  EXPECT_EQ(store->try_get("nothing", soon()), std::nullopt);
  EXPECT_EQ(store->get("large", soon()).size(), std::size_t{16} << 20);
}

TEST_P(StoreTest, GetAndWaitWaitForAnotherClientsSet) {
  const auto store = client();
  std::string got;
  std::thread getter([&] { got = client()->get("later", soon()); });
  std::thread waiter([&] { store->wait("later", soon()); });
  client()->set("later", "now", soon());
  getter.join();
  waiter.join();
  EXPECT_EQ(got, "now");
}

TEST_P(StoreTest, AWaitingCallDoesNotKeepAnotherThreadOfTheSameClientFromPassing) {
  const auto store = client();
  std::thread getter([&] { EXPECT_EQ(store->get("key", soon()), "value"); });
  store->set("other", "x", soon());
  store->set("key", "value", soon());
  getter.join();
}

TEST_P(StoreTest, TimesOutNamingTheKeyAndGoesOnWorking) {
  const auto store = client();
  EXPECT_THAT([&] { (void)store->get("never", Deadline::in(50ms)); },
              ThrowsMessage<TimeoutError>(AllOf(HasSubstr("never"), HasSubstr("50 ms"))));
  EXPECT_THROW((void)store->watch("never", 3, Deadline::in(50ms)), TimeoutError);
  store->set("never", "after all", soon());
  EXPECT_EQ(store->get("never", soon()), "after all");
}

TEST_P(StoreTest, AddsAtomicallyOverManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([this] {
      const auto store = client();
      for (int i = 0; i < 250; ++i) store->add("counter", i % 2 == 0 ? 3 : -1, soon());
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(client()->add("counter", 0, soon()), 4 * 125 * 2);
  EXPECT_EQ(client()->get("counter", soon()), "1000");
}

TEST_P(StoreTest, RefusesToAddToTextAndToOverflow) {
  const auto store = client();
  store->set("text", "12x", soon());
  EXPECT_THROW(store->add("text", 1, soon()), RendezvousError);
  store->set("big", std::to_string(INT64_MAX), soon());
  EXPECT_THROW(store->add("big", 1, soon()), RendezvousError);
  EXPECT_EQ(store->get("big", soon()), std::to_string(INT64_MAX));
}

TEST_P(StoreTest, CompareAndSetHasOneWinner) {
  std::atomic<int> winners{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      if (client()->compare_and_set("leader", std::nullopt, std::to_string(t), soon()) == std::to_string(t))
        ++winners;
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(winners, 1);
  const auto store = client();
  const std::string leader = store->get("leader", soon());
  EXPECT_EQ(store->compare_and_set("leader", "somebody else", "x", soon()), leader);
  EXPECT_EQ(store->compare_and_set("leader", leader, "x", soon()), "x");
  EXPECT_EQ(store->compare_and_set("missing", "x", "y", soon()), std::nullopt);
}

TEST_P(StoreTest, WatchersSeeEveryAppendedByteInOrder) {
  std::string seen;
  std::thread watcher([&] {
    const auto store = client();
    while (seen.size() < 600) seen += store->watch("log", seen.size(), soon());
  });
  const auto store = client();
  std::string written;
  for (int i = 0; i < 200; ++i) {
    const std::string piece = std::to_string(100 + i);
    written += piece;
    EXPECT_EQ(store->append("log", piece, soon()), written.size());
  }
  watcher.join();
  EXPECT_EQ(seen, written);
}

TEST_P(StoreTest, ErasesAndTellsWhetherThereWasSomething) {
  const auto store = client();
  store->set("key", "value", soon());
  EXPECT_TRUE(store->erase("key", soon()));
  EXPECT_FALSE(store->erase("key", soon()));
  EXPECT_EQ(store->try_get("key", soon()), std::nullopt);
}

TEST_P(StoreTest, AppendBeyondTheLargestValueIsRefusedAndChangesNothing) {
  const auto store = client();
  store->append("log", std::string(16 << 20, 'x'), soon());
  EXPECT_THROW(store->append("log", "y", soon()), RendezvousError);
  EXPECT_EQ(store->get("log", soon()).size(), std::size_t{16} << 20);
}

TEST_P(StoreTest, RefusesKeysAndValuesBeyondTheirLimitsAndGoesOnWorking) {
  const auto store = client();
  const std::string huge((16 << 20) + 1, 'x');
  EXPECT_THROW(store->set("", "value", soon()), Error);
  EXPECT_THROW((void)store->get(std::string(1025, 'k'), soon()), Error);
  EXPECT_THROW(store->set("key", huge, soon()), Error);
  EXPECT_THROW(store->append("key", huge, soon()), Error);
  EXPECT_THROW(store->compare_and_set("key", huge, "x", soon()), Error);
  EXPECT_THROW(store->compare_and_set("key", std::nullopt, huge, soon()), Error);
  store->set(std::string(1024, 'k'), "value", soon());
  EXPECT_EQ(store->get(std::string(1024, 'k'), soon()), "value");
}

TEST_P(StoreTest, PrefixesKeepTheirKeysApart) {
  const auto one = make_prefix_store("attempt/0/", client());
  const auto two = make_prefix_store("attempt/1/", client());
  one->set("key", "old", soon());
  EXPECT_EQ(two->try_get("key", soon()), std::nullopt);
  EXPECT_EQ(client()->get("attempt/0/key", soon()), "old");
}

TEST_P(StoreTest, GroupExchangesInRankOrderAndLeavesFewKeysBehind) {
  std::vector<std::thread> ranks;
  for (int r = 0; r < 3; ++r)
    ranks.emplace_back([this, r] {
      const auto group = make_store_group(client(), r, 3);
      for (int round = 0; round < 20; ++round) {
        const auto all = group->exchange(std::to_string(r * 100 + round), soon());
        for (int other = 0; other < 3; ++other)
          EXPECT_EQ(all[static_cast<std::size_t>(other)], std::to_string(other * 100 + round));
      }
    });
  for (auto& rank : ranks) rank.join();
  EXPECT_EQ(client()->try_get("3/0", soon()), std::nullopt);
}

TEST_P(StoreTest, GroupStopsWaitingForARankThatCannotComeAndTakesWhatItGaveBefore) {
  const auto store = client();
  const auto group = make_store_group(client(), 0, 2, [&](int rank) {
    if (rank == 1) throw PeerFailure("rank 1 died");
  });
  EXPECT_THROW((void)group->exchange("x", soon()), PeerFailure);
  bool asked = false;
  const auto leaving = make_store_group(make_prefix_store("second/", client()), 0, 2, [&](int) {
    store->set("second/1/1", "given before it left", soon());
    asked = true;
    throw PeerFailure("rank 1 left");
  });
  EXPECT_EQ(leaving->exchange("x", soon()).at(1), "given before it left");
  EXPECT_TRUE(asked);
}

TEST_P(StoreTest, GroupNamesTheRanksThatDidNotCome) {
  const auto group = make_store_group(client(), 0, 4);
  client()->set("1/2", "here", soon());
  EXPECT_THAT([&] { (void)group->exchange("x", Deadline::in(100ms)); },
              ThrowsMessage<TimeoutError>(AllOf(HasSubstr("rank 1 3 did not come"), HasSubstr("#1"))));
}

// --- Trust -----------------------------------------------------------------------------------------------------------

TEST(StoreServer, RefusesAnotherTokenAndNoToken) {
  const StoreServer server({.listen = {"127.0.0.1", 0}, .token = kToken});
  const StoreEndpoint endpoint{"127.0.0.1", server.port()};
  EXPECT_THROW((void)connect_store(endpoint, {.token = "", .timeout = 5s}), ConfigError);
  EXPECT_THAT([&] { (void)connect_store(endpoint, {.token = "another token, also long", .timeout = 300ms}); },
              ThrowsMessage<Error>(HasSubstr("token")));
}

TEST(StoreServer, RefusesToListenBeyondLoopbackWithoutAToken) {
  EXPECT_THAT(
      [] {
        StoreServer server({.listen = {"*", 0}});
      },
      ThrowsMessage<ConfigError>(AllOf(HasSubstr("DDP_JOB_TOKEN"), HasSubstr("DDP_ALLOW_INSECURE"))));
  const StoreServer risky({.listen = {"*", 0}, .allow_insecure = true});
  EXPECT_NO_THROW((void)connect_store({"127.0.0.1", risky.port()}, {.timeout = 5s}));
}

TEST(StoreServer, SaysThatAPortIsTaken) {
  const StoreServer server({.listen = {"127.0.0.1", 0}});
  EXPECT_THAT(
      [&] {
        StoreServer second({.listen = {"127.0.0.1", server.port()}});
      },
      ThrowsMessage<RendezvousError>(HasSubstr(std::to_string(server.port()))));
}

TEST(StoreServer, RefusesMoreThanItMayHold) {
  const StoreServer server({.listen = {"127.0.0.1", 0}, .max_bytes = 1000});
  const auto store = connect_store({"127.0.0.1", server.port()}, {.timeout = 5s});
  store->set("a", std::string(900, 'x'), soon());
  EXPECT_THROW(store->set("b", std::string(200, 'x'), soon()), RendezvousError);
  store->set("a", std::string(10, 'x'), soon());
  store->set("b", std::string(200, 'x'), soon());
}

TEST(StoreServer, ItsEndIsAnErrorForEveryPendingCallAtOnce) {
  auto server = std::make_unique<StoreServer>(StoreServerOptions{.listen = {"127.0.0.1", 0}});
  const auto store = connect_store({"127.0.0.1", server->port()}, {.timeout = 5s});
  store->set("here", "1", soon());
  std::thread killer([&] { server.reset(); });
  EXPECT_THAT([&] { (void)store->get("never", soon()); }, ThrowsMessage<RendezvousError>(HasSubstr("lost")));
  killer.join();
  EXPECT_THROW(store->set("key", "value", soon()), RendezvousError);
}

TEST(ConnectStore, TriesEveryAddressOfAName) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  ASSERT_EQ(::getaddrinfo("localhost", nullptr, &hints, &list), 0);
  const bool several = list->ai_next != nullptr;
  ::freeaddrinfo(list);
  if (!several) GTEST_SKIP() << "localhost has only one address here";
  const StoreServer server({.listen = {"127.0.0.1", 0}});  // and nobody on ::1, which comes first
  const auto store = connect_store({"localhost", server.port()}, {.timeout = 10s});
  store->set("key", "value", soon());
}

TEST(ConnectStore, WaitsForAServerThatStartsLater) {
  std::uint16_t port = 0;
  {
    const StoreServer probe({.listen = {"127.0.0.1", 0}});
    port = probe.port();
  }
  std::shared_ptr<Store> store;
  std::thread client([&] { store = connect_store({"127.0.0.1", port}, {.timeout = 20s}); });
  const StoreServer server({.listen = {"127.0.0.1", port}});
  client.join();
  EXPECT_NE(store, nullptr);
}

TEST(ConnectStore, SaysAfterItsDeadlineWhatFailedLast) {
  std::uint16_t port = 0;
  {
    const StoreServer probe({.listen = {"127.0.0.1", 0}});
    port = probe.port();
  }
  EXPECT_THAT(
      [&] {
        (void)connect_store({"127.0.0.1", port}, {.timeout = 100ms});
      },
      ThrowsMessage<TimeoutError>(AllOf(HasSubstr("refused"), HasSubstr("MASTER_ADDR"))));
  EXPECT_THAT(
      [] {
        (void)connect_store({"no-such-host.invalid", 1}, {.timeout = 100ms});
      },
      ThrowsMessage<TimeoutError>(HasSubstr("cannot resolve 'no-such-host.invalid'")));
}

}  // namespace
}  // namespace ddp
