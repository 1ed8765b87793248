// What the store's server does with clients that mean it no good, or are broken.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include <ddp/error.h>
#include <ddp/rendezvous.h>

#include "libddp/rendezvous/store_state.h"
#include "libddp/rendezvous/store_wire.h"
#include "tests/rendezvous/raw_client.h"

namespace ddp {
namespace {

using namespace std::chrono_literals;
using store_wire::Op;
using store_wire::Request;

constexpr const char* kToken = "a token for tests only";

class HostileStore : public ::testing::Test {
 protected:
  [[nodiscard]] RawClient raw() const { return RawClient::connected(server_.port()); }
  [[nodiscard]] RawClient trusted() const { return RawClient::trusted(server_.port(), kToken); }
  void expect_alive() {
    const auto store = connect_store({"127.0.0.1", server_.port()}, {.token = kToken, .timeout = 10s});
    store->set("alive", "yes", Deadline::in(10s));
    EXPECT_EQ(store->get("alive", Deadline::in(10s)), "yes");
  }

  StoreServer server_{{.listen = {"127.0.0.1", 0}, .token = kToken}};
};

TEST_F(HostileStore, DropsWhoeverDoesNotSpeakTheHandshake) {
  for (const std::string& greeting :
       {std::string("GET / HTTP/1.1\r\nHost: store\r\n\r\n........................"), std::string(4096, '\0'),
        std::string(100, '\xff')}) {
    const RawClient client = raw();
    client.send_wire(greeting);
    EXPECT_TRUE(client.closed_by_server());
  }
  expect_alive();
}

TEST_F(HostileStore, DropsAuthenticatedGarbage) {
  std::mt19937 random(20261123);
  for (int round = 0; round < 200; ++round) {
    RawClient client = trusted();
    std::string bytes(13 + random() % 200, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    if (round % 2 == 0)
      bytes.replace(0, 4,
                    std::string({static_cast<char>(bytes.size() - 4), 0, 0, 0}));  // a believable length
    client.send(bytes);
    client.half_close();
    EXPECT_TRUE(client.closed_by_server());
  }
  expect_alive();
}

TEST_F(HostileStore, EveryTruncationOfAFrameIsHarmless) {
  Request request;
  request.op = Op::kCompareAndSet;
  request.key = "key";
  request.value = "value";
  request.expected = "expected";
  const std::string frame = store_wire::encode(request);
  for (std::size_t length = 0; length < frame.size(); ++length) {
    RawClient client = trusted();
    client.send(frame.substr(0, length));
    client.half_close();
    EXPECT_TRUE(client.closed_by_server()) << length;
  }
  expect_alive();
}

TEST_F(HostileStore, RefusesLengthsThatWouldNeedMuchMemory) {
  RawClient client = trusted();
  client.send(std::string("\xff\xff\xff\xff", 4) + std::string(9, '\1'));
  EXPECT_TRUE(client.closed_by_server());
  expect_alive();
}

TEST_F(HostileStore, ServesOthersWhileHalfFramesAndSilentPeersHang) {
  std::vector<RawClient> hanging;
  for (int i = 0; i < 50; ++i) hanging.push_back(raw());
  for (int i = 0; i < 50; ++i) {
    hanging.push_back(trusted());
    hanging.back().send("\x20");
  }
  expect_alive();
}

TEST_F(HostileStore, SurvivesAThousandIdleConnections) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_cur < 3500)
    GTEST_SKIP() << "only " << limit.rlim_cur << " descriptors are allowed, the test needs 3500";
  std::vector<RawClient> idle;
  for (int i = 0; i < 1500; ++i) idle.push_back(i < 1000 ? trusted() : raw());
  expect_alive();
  EXPECT_GE(server_.connections(), 1000u);
  idle.clear();
  EXPECT_TRUE(server_.wait_for_connections_below(0, Deadline::in(20s)));
}

TEST_F(HostileStore, ForgetsTheWaitsOfAClientThatLeft) {
  StoreState state(1 << 20);
  int answers = 0;
  Request get;
  get.op = Op::kGet;
  get.key = "key";
  state.execute(1, get, [&](const auto&) { ++answers; });
  state.execute(2, get, [&](const auto&) { ++answers; });
  EXPECT_EQ(state.waiting(), 2u);
  state.forget(1);
  EXPECT_EQ(state.waiting(), 1u);
  Request set;
  set.key = "key";
  state.execute(3, set, [](const auto&) {});
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(state.waiting(), 0u);
}

TEST_F(HostileStore, SendsAClientAwayWhenItHasNoRoom) {
  const StoreServer small({.listen = {"127.0.0.1", 0}, .token = kToken, .max_connections = 1});
  const auto first = connect_store({"127.0.0.1", small.port()}, {.token = kToken, .timeout = 10s});
  EXPECT_THROW((void)connect_store({"127.0.0.1", small.port()}, {.token = kToken, .timeout = 300ms}),
               TimeoutError);
  first->set("still", "served", Deadline::in(10s));
}

std::size_t resident_mib() {
  std::size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) >> 20;
}

TEST_F(HostileStore, TakesMemoryForBytesThatCameNotForBytesThatWereAnnounced) {
  const std::string announces_32_mib = std::string("\x00\x00\x00\x02", 4) + std::string(8, '\0') + "\x01";
  const std::size_t before = resident_mib();
  std::vector<RawClient> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(trusted());
    clients.back().send(request(Op::kSet, "key", "value") + announces_32_mib);
    EXPECT_GT(clients.back().drain(1), 0u);  // the reply: the server has seen both
  }
  EXPECT_LT(resident_mib(), before + 1000);  // of 3200
  expect_alive();
}

TEST_F(HostileStore, StrangersCanNeitherKeepAClientOutNorTakeTheRestsPlaces) {
  const StoreServer server(
      {.listen = {"127.0.0.1", 0}, .token = kToken, .max_strangers = 4, .handshake_time = 1000s});
  const auto before = connect_store({"127.0.0.1", server.port()}, {.token = kToken, .timeout = 20s});
  std::vector<RawClient> strangers;
  for (int i = 0; i < 6; ++i) strangers.push_back(RawClient::connected(server.port()));
  const auto after = connect_store({"127.0.0.1", server.port()}, {.token = kToken, .timeout = 20s});
  EXPECT_TRUE(strangers[0].closed_by_server());
  before->set("key", "value", Deadline::in(20s));
  EXPECT_EQ(after->get("key", Deadline::in(20s)), "value");
  EXPECT_EQ(server.connections(), 2u);
}

TEST_F(HostileStore, AStrangerDoesNotKeepTheHostOfTheStoreFromLeaving) {
  const RawClient stranger = raw();
  expect_alive();  // accepted in order, so the stranger is in
  EXPECT_TRUE(server_.wait_for_connections_below(0, Deadline::in(20s)));
  EXPECT_TRUE(stranger.open_and_silent());
}

TEST(StoreWire, RefusesRequestsWithPartsThatTheirOperationDoesNotHave) {
  const auto accepted = [](const Request& request) {
    const std::string frame = store_wire::encode(request);
    const auto header = store_wire::decode_header(frame.substr(0, store_wire::kHeaderBytes));
    return store_wire::decode_request(*header, frame.substr(store_wire::kHeaderBytes)).has_value();
  };
  EXPECT_TRUE(accepted({.op = Op::kGet, .key = "key"}));
  EXPECT_FALSE(accepted({.op = Op::kGet, .key = ""}));
  EXPECT_FALSE(accepted({.op = Op::kGet, .key = std::string(1025, 'k')}));
  EXPECT_FALSE(accepted({.op = Op::kGet, .key = "key", .value = "value"}));
  EXPECT_FALSE(accepted({.op = Op::kSet, .key = "key", .value = "value", .expected = "old"}));
  EXPECT_FALSE(accepted({.op = Op::kErase, .key = "key", .number = 1}));
  EXPECT_TRUE(accepted({.op = Op::kCancel, .number = 1}));
  EXPECT_FALSE(accepted({.op = Op::kCancel, .key = "key", .number = 1}));
}

TEST(StoreWire, DecodesNothingButWholeMessages) {
  Request request;
  request.id = 7;
  request.op = Op::kWatch;
  request.key = "key";
  request.number = 42;
  const std::string frame = store_wire::encode(request);
  const auto header = store_wire::decode_header(frame.substr(0, store_wire::kHeaderBytes));
  ASSERT_TRUE(header);
  const std::string body = frame.substr(store_wire::kHeaderBytes);
  const auto decoded = store_wire::decode_request(*header, body);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->id, 7u);
  EXPECT_EQ(decoded->key, "key");
  EXPECT_EQ(decoded->number, 42u);
  EXPECT_FALSE(store_wire::decode_request(*header, body + "x"));
  for (std::size_t n = 0; n < body.size(); ++n)
    EXPECT_FALSE(store_wire::decode_request(*header, body.substr(0, n)));
}

}  // namespace
}  // namespace ddp
