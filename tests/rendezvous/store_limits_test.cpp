// The bounds within which the store's server and client keep memory, time and places.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
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

}  // namespace
}  // namespace ddp
