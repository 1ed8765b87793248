// What the store's server does with clients that mean it no good, or are broken.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
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

std::string request(Op op, const std::string& key, const std::string& value = {}, std::uint64_t number = 0) {
  Request request;
  request.op = op;
  request.key = key;
  request.value = value;
  request.number = number;
  return store_wire::encode(request);
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
  const StoreServer server({.listen = {"127.0.0.1", 0}, .token = kToken, .max_strangers = 4, .handshake_time = 1000s});
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

TEST(StoreLimits, HalfAHeaderIsTimedAndSilenceBetweenFramesIsNot) {
  const StoreServer server({.listen = {"127.0.0.1", 0}, .frame_time = 200ms});
  const RawClient idle = RawClient::trusted(server.port(), "");
  RawClient half_header = RawClient::trusted(server.port(), "");
  RawClient half_body = RawClient::trusted(server.port(), "");
  half_header.send(request(Op::kSet, "key", "value") + "\x20");
  half_body.send(request(Op::kSet, "key", "value").substr(0, 20));
  EXPECT_TRUE(half_header.closed_by_server());
  EXPECT_TRUE(half_body.closed_by_server());
  EXPECT_TRUE(idle.open_and_silent());
}

TEST(StoreLimits, AStrangerThatTricklesIsDropped) {
  const StoreServer server({.listen = {"127.0.0.1", 0}, .token = kToken, .handshake_time = 200ms});
  const RawClient client = RawClient::connected(server.port());
  client.send_wire("ddpH");
  EXPECT_TRUE(client.closed_by_server());
}

TEST(StoreLimits, ManyThreadsOfOneClientGetLargeValuesAtOnce) {
  const StoreServer server({.listen = {"127.0.0.1", 0}, .token = kToken});
  const auto store = connect_store({"127.0.0.1", server.port()}, {.token = kToken, .timeout = 20s});
  store->set("large", std::string(16 << 20, 'x'), Deadline::in(60s));
  std::vector<std::thread> threads;
  for (int t = 0; t < 18; ++t)  // 288 MiB of replies
    threads.emplace_back(
        [&] { EXPECT_EQ(store->get("large", Deadline::in(100s)).size(), std::size_t{16} << 20); });
  for (auto& thread : threads) thread.join();
}

TEST(StoreLimits, AClientThatReadsLateGetsEveryReply) {
  const StoreServer server({.listen = {"127.0.0.1", 0}});
  RawClient client = RawClient::trusted(server.port(), "");
  const std::size_t value = std::size_t{1} << 20, count = 300;
  client.send(request(Op::kSet, "key", std::string(value, 'x')));
  for (std::size_t i = 0; i < count; ++i) client.send(request(Op::kGet, "key"));
  const std::size_t reply = store_wire::encode(store_wire::Reply{}).size();
  EXPECT_EQ(client.drain(reply + count * (reply + value)), reply + count * (reply + value));
  EXPECT_TRUE(client.open_and_silent());
}

TEST(StoreLimits, AClientThatIsRefusedAndDoesNotReadIsDropped) {
  StoreServer server({.listen = {"127.0.0.1", 0}, .handshake_time = 500ms});
  RawClient client = RawClient::trusted(server.port(), "");
  client.send(request(Op::kSet, "key", std::string(16 << 20, 'x')) + request(Op::kGet, "key") +
              request(Op::kGet, "key") + std::string(13, '\xff'));
  EXPECT_TRUE(server.wait_for_connections_below(0, Deadline::in(20s)));
}

/// Shakes hands with one client and then does whatever the test does with the descriptor.
class StuckServer {
 public:
  StuckServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  FileDescriptor accept() const {
    FileDescriptor fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    (void)run_server_handshake(fd.get(), store_terms(""), Deadline::in(20s));
    return fd;
  }

 private:
  FileDescriptor listener_;
  std::uint16_t port_ = 0;
};

TEST(StoreLimits, AThreadsDeadlineHoldsWhileAnothersRequestIsStuckOnItsWay) {
  const StuckServer server;
  FileDescriptor stuck;
  std::thread accepting([&] { stuck = server.accept(); });
  const auto store = connect_store({"127.0.0.1", server.port()}, {.timeout = 20s});
  accepting.join();
  std::thread large([&] {
    EXPECT_THROW(store->set("large", std::string(16 << 20, 'x'), Deadline::in(100s)), RendezvousError);
  });
  pollfd begun{stuck.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&begun, 1, 20'000), 1);
  EXPECT_THROW((void)store->get("key", Deadline::in(50ms)), TimeoutError);
  stuck.reset();
  large.join();
}

TEST(StoreLimits, ASocketOfAnotherUserIsNotTheStore) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can play another user";
  const std::string name = "@ddp-squatter-" + std::to_string(::getpid());
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const bool good = ::setuid(65534) == 0 && ::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
                      ::bind(fd, reinterpret_cast<const sockaddr*>(&address),
                             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())) == 0 &&
                      ::listen(fd, 16) == 0;
    (void)!::write(ready[1], good ? "1" : "0", 1);
    for (;;) ::pause();
  }
  char good = 0;
  EXPECT_EQ(::read(ready[0], &good, 1), 1);
  EXPECT_EQ(good, '1');
  try {
    (void)connect_store({"unix:" + name, 0}, {.timeout = 200ms});
    ADD_FAILURE() << "connected";
  } catch (const TimeoutError& error) {
    EXPECT_NE(std::string(error.what()).find("another user"), std::string::npos) << error.what();
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(StoreLimits, WaitsTakeUpTheStoresMemoryAndGiveItBack) {
  StoreState state(10'000);
  Request get;
  get.op = Op::kGet;
  get.key = "key";
  store_wire::Status last = store_wire::Status::kOk;
  std::size_t refusals = 0;
  for (get.id = 1; get.id <= 1000; ++get.id)
    state.execute(1, get,
                  [&](const auto& reply) { refusals += reply.status == store_wire::Status::kRefused; });
  EXPECT_GT(state.waiting(), 10u);
  EXPECT_EQ(state.waiting() + refusals, 1000u);
  Request set;
  set.key = "large";
  set.value = std::string(9'000, 'x');
  const auto remember = [&](const auto& reply) { last = reply.status; };
  state.execute(2, set, remember);
  EXPECT_EQ(last, store_wire::Status::kRefused);
  state.forget(1);
  EXPECT_EQ(state.waiting(), 0u);
  state.execute(2, set, remember);
  EXPECT_EQ(last, store_wire::Status::kOk);
}

TEST(StoreLimits, AppendingAndErasingKeepCountOfTheMemory) {
  StoreState state(1'000);
  store_wire::Reply last;
  const auto remember = [&](const store_wire::Reply& reply) { last = reply; };
  Request append;
  append.op = Op::kAppend;
  append.key = "log";
  append.value = std::string(100, 'x');
  for (int i = 0; i < 9; ++i) state.execute(1, append, remember);
  EXPECT_EQ(last.number, 900u);
  state.execute(1, append, remember);
  EXPECT_EQ(last.status, store_wire::Status::kRefused);
  Request erase;
  erase.op = Op::kErase;
  erase.key = "log";
  for (int round = 0; round < 3; ++round) {
    state.execute(1, erase, remember);
    EXPECT_EQ(last.number, 1u);
    for (int i = 0; i < 9; ++i) state.execute(1, append, remember);
    EXPECT_EQ(last.number, 900u);
  }
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
