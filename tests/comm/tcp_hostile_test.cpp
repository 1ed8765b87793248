// Forming a group among strangers, and peers that send what they should not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netdb.h>
#include <sys/socket.h>

#include <random>

#include "libddp/comm/host/tcp/acceptor.h"
#include "libddp/comm/host/tcp/data_links.h"
#include "libddp/comm/host/tcp/roster.h"
#include "libddp/rendezvous/auth.h"
#include "tests/comm/tcp_ranks.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

Deadline soon() {
  return Deadline::in(std::chrono::seconds(30));
}

std::vector<std::byte> noise(std::size_t bytes, unsigned seed) {
  std::mt19937 generator(seed);
  std::vector<std::byte> result(bytes);
  for (auto& byte : result) byte = static_cast<std::byte>(generator());
  return result;
}

void send_all(const FileDescriptor& fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) continue;
    if (n <= 0) return;  // the other side has had enough
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

/// What a rank that listens nowhere publishes.
host::RosterEntry entry_of(int rank, int pid, int streams = 2) {
  host::RosterEntry entry;
  entry.endpoint.address = "127.0.0.1";
  entry.endpoint.port = 9;
  entry.streams = streams;
  entry.nonce = "n";
  entry.name.rank = rank;
  entry.name.host = "host-" + std::string(1, static_cast<char>('a' + rank));
  entry.name.pid = pid;
  return entry;
}

/// Connects rank 0 of `ranks` in this thread; returns what it throws, or what `body` throws.
std::string error_of_rank_0(
    int ranks, Store& store, Deadline deadline, const std::function<void(TcpRank&)>& body = [](TcpRank&) {}) {
  TcpRank self{0, ranks, {}, {}};
  try {
    self.group = host::TcpGroup::connect(tcp_options({.ranks = ranks}, 0), store, self.failure, deadline);
    body(self);
  } catch (const std::exception& error) {
    return describe_error(error);
  }
  return "";
}

/// Plays rank 1 of 2 by hand.
class FakePeer {
 public:
  explicit FakePeer(Store& store, const std::string& token = tcp_options({}, 1).token, int streams = 2) {
    store.set("tcp/1", host::encode(entry_of(1, 1, streams)), soon());
    const auto rank0 = host::decode_entry(store.get("tcp/0", soon()), 0);
    for (int stream = 0; stream <= streams + 1; ++stream) {
      FileDescriptor fd = host::connect_to(rank0.endpoint, soon(), "fake");
      send_all(fd, bytes_of(host::Preamble{host::Preamble{}.magic, 1, stream, 0}));
      authenticate_client(fd.get(), token, host::purpose_of(rank0.nonce, 1, 0, stream), soon());
      links_.push_back(std::move(fd));
    }
  }
  [[nodiscard]] const FileDescriptor& control() const { return links_[0]; }
  [[nodiscard]] const FileDescriptor& data(std::size_t stream) const { return links_[1 + stream]; }

 private:
  std::vector<FileDescriptor> links_;
};

Operation large_all_reduce(std::vector<float>& data) {
  Operation o = operation(OpKind::kAllReduce, 1);
  o.dtype = DType::kFloat32;
  o.count = data.size();
  o.input = o.output = data.data();
  return o;
}

/// What rank 0 says of an all_reduce with a fake rank 1 that does `mischief`.
std::string error_after(const std::function<void(FakePeer&, const Operation&)>& mischief) {
  MemoryStore store;
  std::vector<float> data(100'000);
  const Operation o = large_all_reduce(data);
  std::thread fake([&] {
    FakePeer peer(store);
    mischief(peer, o);
    char byte = 0;
    while (::recv(peer.control().get(), &byte, 1, MSG_DONTWAIT) != 0 && errno != ECONNRESET) {
    }
  });
  const std::string error = error_of_rank_0(2, store, soon(), [&](TcpRank& self) { self.run(o); });
  fake.join();
  return error;
}

TEST(TcpGarbage, OnTheControlConnectionIsAnErrorThatNamesThePeer) {
  for (unsigned seed = 0; seed < 20; ++seed)
    EXPECT_THAT(error_after([&](FakePeer& peer, const Operation&) {
                  send_all(peer.control(), noise(100 + seed * 997, seed));
                }),
                AllOf(StartsWith("Error: rank 1 (host-b, pid 1) sent a frame without the magic number"),
                      HasSubstr("all_reduce #1")));
}

TEST(TcpGarbage, InTheFieldsOfAFrameIsAnError) {
  const auto with = [](const std::function<void(host::wire::Frame&)>& change) {
    return error_after([&](FakePeer& peer, const Operation& o) {
      host::wire::Frame frame = host::wire::frame_of(o, 0);
      change(frame);
      send_all(peer.control(), bytes_of(frame));
    });
  };
  EXPECT_THAT(with([](auto& f) { f.kind = 200; }), HasSubstr("unknown operation"));
  EXPECT_THAT(with([](auto& f) { f.dtype = 99; }), HasSubstr("unknown dtype"));
  EXPECT_THAT(with([](auto& f) { f.op = 77; }), HasSubstr("unknown reduction"));
  EXPECT_THAT(with([](auto& f) { f.payload = 0xffffffff; }), HasSubstr("too long"));
  EXPECT_THAT(with([](auto& f) { f.type = static_cast<host::wire::FrameType>(0); }), HasSubstr("frame type"));
  EXPECT_THAT(with([](auto& f) {
                f.type = host::wire::FrameType::kFailure;
                f.kind = 250;
              }),
              HasSubstr("unknown kind of error"));
  EXPECT_THAT(with([](auto& f) { f.root = 1'000'000; }), StartsWith("MismatchError: "));
  EXPECT_THAT(with([](auto& f) { f.count = ~0ull; }), StartsWith("MismatchError: "));
}

TEST(TcpGarbage, UnexpectedSmallDataIsAnError) {
  EXPECT_THAT(error_after([](FakePeer& peer, const Operation& o) {
                host::wire::Frame frame = host::wire::frame_of(o, 0);
                frame.payload = 5;
                send_all(peer.control(), bytes_of(frame));
                send_all(peer.control(), noise(5, 1));
              }),
              HasSubstr("sent 5 bytes with its frame where 0 were due"));
}

TEST(TcpGarbage, AFloodOfFramesIsAnErrorAndNotMemory) {
  EXPECT_THAT(error_after([](FakePeer& peer, const Operation& o) {
                for (int i = 0; i < 1000; ++i) send_all(peer.control(), bytes_of(host::wire::frame_of(o, 0)));
              }),
              HasSubstr("more operations than it can have begun"));
}

TEST(TcpGarbage, OnADataConnectionIsAnError) {
  for (unsigned seed = 0; seed < 10; ++seed)
    EXPECT_THAT(error_after([&](FakePeer& peer, const Operation& o) {
                  send_all(peer.control(), bytes_of(host::wire::frame_of(o, 0)));
                  send_all(peer.data(seed % 2), noise(50'000, seed));
                }),
                AllOf(StartsWith("Error: rank 1 (host-b, pid 1) sent data that is not what comes next"),
                      HasSubstr("all_reduce #1")));
}

TEST(TcpFormation, IsNotDelayedByStrangers) {
  MemoryStore store;
  std::vector<FileDescriptor> strangers;
  std::thread other([&] {
    const auto rank0 = host::decode_entry(store.get("tcp/0", soon()), 0);
    for (unsigned i = 0; i < 50; ++i) {
      strangers.push_back(host::connect_to(rank0.endpoint, soon(), "stranger"));
      if (i % 2 == 0) send_all(strangers.back(), noise(i * 3, i));
      if (i % 5 == 0) send_all(strangers.back(), bytes_of(host::Preamble{host::Preamble{}.magic, 1, 0, 0}));
    }
    TcpRank self{1, 2, {}, {}};
    self.group = host::TcpGroup::connect(tcp_options({}, 1), store, self.failure, soon());
    self.run(operation(OpKind::kBarrier, 1));
  });
  const auto begin = Clock::now();
  EXPECT_THAT(
      error_of_rank_0(2, store, soon(), [](TcpRank& self) { self.run(operation(OpKind::kBarrier, 1)); }),
      IsEmpty());
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(8));
  other.join();
}

TEST(TcpFormation, NamesTheRanksThatDidNotCome) {
  MemoryStore store;
  store.set("tcp/2", host::encode(entry_of(2, 1)), soon());
  EXPECT_THAT(error_of_rank_0(4, store, Deadline::in(std::chrono::milliseconds(200))),
              AllOf(StartsWith("TimeoutError: "), HasSubstr("missing: rank 1, 3 of 4")));
}

TEST(TcpFormation, NamesTheRanksThatCameButDidNotConnect) {
  MemoryStore store;
  store.set("tcp/1", host::encode(entry_of(1, 77)), soon());
  EXPECT_THAT(error_of_rank_0(2, store, Deadline::in(std::chrono::milliseconds(200))),
              AllOf(StartsWith("TimeoutError: "), HasSubstr("missing: rank 1 (host-b, pid 77)")));
}

TEST(TcpFormation, RefusesAWrongToken) {
  MemoryStore store;
  std::string refused;
  std::thread other([&] {
    try {
      const FakePeer peer(store, "another token, and a wrong one");
    } catch (const Error& error) {
      refused = describe_error(error);
    }
  });
  const std::string error = error_of_rank_0(2, store, Deadline::in(std::chrono::milliseconds(800)));
  other.join();
  EXPECT_THAT(error, AllOf(StartsWith("TimeoutError: "), HasSubstr("a caller was sent away")));
  EXPECT_THAT(refused, StartsWith("RendezvousError: "));
}

TEST(TcpFormation, RefusesADifferentNumberOfStreams) {
  MemoryStore store;
  store.set("tcp/1", host::encode(entry_of(1, 1, 7)), soon());
  EXPECT_THAT(error_of_rank_0(2, store, soon()),
              AllOf(StartsWith("ConfigError: "), HasSubstr("uses 7 TCP streams")));
}

TEST(TcpFormation, RefusesARosterEntryThatMakesNoSense) {
  for (const std::string text :
       {"", "x", "ddp-tcp-2\n", "ddp-tcp-2\n1.2.3.4\n99999\n2\nn\n1\nh\n",
        "ddp-tcp-2\n1.2.3.4\n9x\n2\nn\n1\nh\n", "ddp-tcp-2\n1.2.3.4\n9\n0\nn\n1\nh\n"}) {
    MemoryStore store;
    store.set("tcp/1", text, soon());
    EXPECT_THAT(error_of_rank_0(2, store, soon()),
                AllOf(StartsWith("RendezvousError: "), HasSubstr("'tcp/1'")));
  }
}

TEST(TcpFormation, RefusesOptionsThatMakeNoSense) {
  const auto error = [](const std::function<void(host::TcpOptions&)>& change) {
    MemoryStore store;
    host::Failure failure;
    host::TcpOptions options = tcp_options({}, 0);
    change(options);
    try {
      (void)host::TcpGroup::connect(options, store, failure, soon());
    } catch (const std::exception& e) {
      return describe_error(e);
    }
    return std::string();
  };
  EXPECT_THAT(error([](auto& o) { o.streams = 0; }), StartsWith("ConfigError: "));
  EXPECT_THAT(error([](auto& o) { o.rank = 2; }), StartsWith("ConfigError: "));
  EXPECT_THAT(error([](auto& o) { o.bind_address = "0.0.0.0"; }),
              AllOf(StartsWith("ConfigError: "), HasSubstr("0.0.0.0")));
  EXPECT_THAT(error([](auto& o) { o.bind_address = "203.0.113.77"; }),
              AllOf(StartsWith("ConfigError: "), HasSubstr("203.0.113.77")));
  EXPECT_THAT(error([](auto& o) { o.bind_address = "no such host!"; }), StartsWith("ConfigError: "));
}

}  // namespace
}  // namespace ddp::testing
