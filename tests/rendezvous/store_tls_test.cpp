// What somebody on the wire between a client and the store's server sees and can do. Every claim about an
// encrypted connection stands beside the same attempt at one in clear, where it must succeed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ddp/error.h>
#include <ddp/rendezvous.h>

#include "libddp/rendezvous/store_wire.h"
#include "tests/rendezvous/raw_client.h"
#include "tests/rendezvous/wire_tap.h"

namespace ddp {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

const std::string kToken = "a token for tests only";
const std::string kSecret = "the recognisable value of this test";

Deadline soon() {
  return Deadline::in(30s);
}

/// A server, and a tap in front of it.
struct Tapped {
  explicit Tapped(const std::string& token_of_job)
      : token(token_of_job), server({.listen = {"127.0.0.1", 0}, .token = token_of_job}) {}
  [[nodiscard]] std::shared_ptr<Store> client() const {
    return connect_store({"127.0.0.1", tap.port()}, {.token = token, .timeout = 30s});
  }
  /// Not by way of the tap.
  [[nodiscard]] std::shared_ptr<Store> direct() const {
    return connect_store({"127.0.0.1", server.port()}, {.token = token, .timeout = 30s});
  }
  std::string token;
  StoreServer server;
  WireTap tap{server.port()};
};

class StoreTls : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!tls::available()) GTEST_SKIP() << "this build has no TLS (DDP_TLS=OFF)";
  }
};

TEST_F(StoreTls, NobodyOnTheWireReadsKeysOrValues) {
  const Tapped job(kToken);
  const auto store = job.client();
  store->set("key of " + kSecret, "value of " + kSecret, soon());
  EXPECT_EQ(store->get("key of " + kSecret, soon()), "value of " + kSecret);
  for (const auto direction : {WireTap::kToServer, WireTap::kToClient}) {
    EXPECT_GT(job.tap.recorded(direction).size(), kSecret.size());
    EXPECT_THAT(job.tap.recorded(direction), AllOf(Not(HasSubstr(kSecret)), Not(HasSubstr(kToken))));
  }
}

TEST(StoreInClear, SomebodyOnTheWireReadsWhatAJobWithoutATokenSays) {
  const Tapped job("");
  const auto store = job.client();
  store->set("key", kSecret, soon());
  EXPECT_EQ(store->get("key", soon()), kSecret);
  for (const auto direction : {WireTap::kToServer, WireTap::kToClient})
    EXPECT_THAT(job.tap.recorded(direction), HasSubstr(kSecret));
}

TEST_F(StoreTls, ValuesOfEverySizeArriveWhole) {
  const Tapped job(kToken);
  const auto store = job.client();
  for (const std::size_t size : {0, 1, 16383, 16384, 16385, 262144, 262145, 16 << 20}) {
    std::string value(size, '\0');
    for (std::size_t i = 0; i < size; ++i) value[i] = static_cast<char>(i * 31 + i / 257);
    store->set("key", value, soon());
    EXPECT_EQ(store->get("key", soon()), value) << size;
  }
}

TEST_F(StoreTls, AFlippedBitOnTheWayToTheServerEndsTheConnectionAndChangesNothing) {
  for (const std::size_t offset : {0, 1, 3, 4, 5, 20, 1000}) {
    Tapped job(kToken);
    const auto store = job.client();
    store->set("key", "before", soon());
    job.tap.flip_next(WireTap::kToServer, offset, 0x01);
    // A longer record is one that never ends; whatever comes next completes it.
    EXPECT_THROW(
        {
          try {
            store->set("key", std::string(40, 'a'), Deadline::in(300ms));
          } catch (const TimeoutError&) {
            for (int i = 0; i < 1000; ++i) store->set("key", std::string(1000, 'b'), soon());
          }
        },
        RendezvousError)
        << offset;
    EXPECT_EQ(job.direct()->get("key", soon()), "before") << offset;
  }
}

TEST_F(StoreTls, AFlippedBitOnTheWayToTheClientIsAnErrorThatSaysSo) {
  for (const std::size_t offset : {5, 20, 1000}) {
    Tapped job(kToken);
    const auto store = job.client();
    store->set("key", kSecret, soon());
    job.tap.flip_next(WireTap::kToClient, offset, 0x10);
    EXPECT_THAT([&] { (void)store->get("key", soon()); },
                ThrowsMessage<RendezvousError>(AllOf(HasSubstr("tampered"), Not(HasSubstr(kToken)))));
  }
}

TEST(StoreInClear, AFlippedBitIsNotNoticed) {
  Tapped job("");
  const auto store = job.client();
  job.tap.flip_next(WireTap::kToServer, store_wire::kHeaderBytes + 4 + 3 + 4,
                    0x01);  // first byte of the value
  store->set("key", "abc", soon());
  EXPECT_EQ(job.direct()->get("key", soon()), "`bc");
}

TEST_F(StoreTls, ARepeatedRecordIsNotExecutedAgain) {
  Tapped job(kToken);
  const auto store = job.client();
  EXPECT_EQ(store->add("counter", 1, soon()), 1);
  job.tap.repeat_next(WireTap::kToServer);
  // The server closes the connection; whether before it answered depends on how the bytes arrive.
  EXPECT_THROW(
      {
        (void)store->add("counter", 1, soon());
        (void)store->get("nothing", soon());
      },
      RendezvousError);
  EXPECT_LE(job.direct()->add("counter", 0, soon()), 2);
}

TEST(StoreInClear, ARepeatedRequestIsExecutedAgain) {
  Tapped job("");
  const auto store = job.client();
  job.tap.repeat_next(WireTap::kToServer);
  (void)store->add("counter", 1, soon());
  (void)store->add("counter", 1, soon());
  EXPECT_EQ(store->add("counter", 0, soon()), 3);
}

TEST(StoreTlsOrNot, ARecordedSessionIsWorthNothingInAnotherConnection) {
  const Tapped job(kToken);
  EXPECT_EQ(job.client()->add("counter", 1, soon()), 1);
  const RawClient replay = RawClient::connected(job.server.port());
  replay.send_wire(job.tap.recorded(WireTap::kToServer));
  EXPECT_TRUE(replay.closed_by_server());
  EXPECT_EQ(job.direct()->add("counter", 0, soon()), 1);
}

TEST(StoreTlsOrNot, AnotherTokenIsRefusedBeforeTlsWithAnErrorThatNamesTheVariable) {
  const Tapped job(kToken);
  EXPECT_THAT(
      [&] {
        (void)connect_store({"127.0.0.1", job.tap.port()},
                            {.token = "another token, as long", .timeout = 200ms});
      },
      ThrowsMessage<TimeoutError>(AllOf(HasSubstr("another job token"), HasSubstr("DDP_JOB_TOKEN"),
                                        Not(HasSubstr(kToken)), Not(HasSubstr("as long")))));
  // Hello and proof, as often as it tried, and no ClientHello.
  EXPECT_EQ(job.tap.recorded(WireTap::kToServer).size() % 72, 0u);
}

TEST(StoreTlsOrNot, ABuildWithTlsAndOneWithoutSayWhichOptionDiffers) {
  const Tapped job(kToken);
  const RawClient other_build = RawClient::connected(job.server.port());
  handshake::Terms terms = store_terms(kToken);
  terms.tls = !terms.tls;
  EXPECT_THAT([&] { (void)run_client_handshake(other_build.fd(), terms, soon()); },
              ThrowsMessage<ConfigError>(HasSubstr("DDP_TLS")));
  EXPECT_TRUE(other_build.closed_by_server());
}

TEST_F(StoreTls, GarbageInsteadOfTlsIsDropped) {
  const Tapped job(kToken);
  const std::string alert("\x15\x03\x03\x00\x02\x02\x28", 7);
  const std::string huge_record("\x16\x03\x01\xff\xff", 5);
  std::string empty_records;
  for (int i = 0; i < 64; ++i) empty_records += std::string("\x16\x03\x01\x00\x00", 5);
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(64, '\0'), alert, huge_record, empty_records,
        request(store_wire::Op::kSet, "key", "in clear")}) {
    const RawClient client = RawClient::proven(job.server.port(), kToken);
    client.send_wire(bytes);
    EXPECT_TRUE(client.closed_by_server()) << ::testing::PrintToString(bytes);
  }
  EXPECT_EQ(job.direct()->try_get("key", soon()), std::nullopt);
}

TEST_F(StoreTls, EveryTruncationOfAClientHelloIsHarmless) {
  const Tapped job(kToken);
  const std::string hello = RawClient::proven(job.server.port(), kToken).open_channel()->take_wire();
  for (std::size_t length = 0; length < hello.size(); length += 3) {
    RawClient client = RawClient::proven(job.server.port(), kToken);
    client.send_wire(client.open_channel()->take_wire().substr(0, length));
    client.half_close();
    EXPECT_TRUE(client.closed_by_server()) << length;
  }
  job.direct()->set("alive", "yes", soon());
}

TEST_F(StoreTls, ATruncatedRecordIsNotExecuted) {
  const Tapped job(kToken);
  const std::string set = request(store_wire::Op::kSet, "key", "value");
  const std::size_t size = RawClient::trusted(job.server.port(), kToken).encrypt(set).size();
  for (std::size_t length = 1; length < size; ++length) {
    RawClient client = RawClient::trusted(job.server.port(), kToken);
    client.send_wire(client.encrypt(set).substr(0, length));
    client.half_close();
    EXPECT_TRUE(client.closed_by_server()) << length;
  }
  EXPECT_EQ(job.direct()->try_get("key", soon()), std::nullopt);
}

TEST_F(StoreTls, FramesMayBeSplitOverRecordsAndRecordsOverPackets) {
  const Tapped job(kToken);
  RawClient client = RawClient::trusted(job.server.port(), kToken);
  std::string wire;
  for (const char byte : request(store_wire::Op::kSet, "key", "value")) wire += client.encrypt({&byte, 1});
  for (const char byte : wire) client.send_wire({&byte, 1});
  EXPECT_EQ(job.direct()->get("key", soon()), "value");
}

TEST_F(StoreTls, WhoeverIsTooSlowWithTlsIsDropped) {
  const StoreServer server({.listen = {"127.0.0.1", 0}, .token = kToken, .handshake_time = 2s});
  const RawClient silent = RawClient::proven(server.port(), kToken);
  const RawClient half = RawClient::proven(server.port(), kToken);
  half.send_wire(half.open_channel()->take_wire().substr(0, 50));
  EXPECT_TRUE(silent.closed_by_server());
  EXPECT_TRUE(half.closed_by_server());
}

TEST_F(StoreTls, AHalfRecordIsTimedAndAnIdleConnectionIsNot) {
  const StoreServer server({.listen = {"127.0.0.1", 0}, .token = kToken, .frame_time = 200ms});
  const RawClient idle = RawClient::trusted(server.port(), kToken);
  RawClient half_record = RawClient::trusted(server.port(), kToken);
  RawClient half_frame = RawClient::trusted(server.port(), kToken);
  const std::string set = request(store_wire::Op::kSet, "key", "value");
  half_record.send_wire(half_record.encrypt(set) + "\x17");  // a whole one, and the first byte of another
  half_frame.send(set + set.substr(0, 1));
  EXPECT_TRUE(half_record.closed_by_server());
  EXPECT_TRUE(half_frame.closed_by_server());
  EXPECT_TRUE(idle.open_and_silent());
}

}  // namespace
}  // namespace ddp
