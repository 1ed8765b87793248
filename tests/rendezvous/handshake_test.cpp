#include "libddp/rendezvous/handshake.h"

#include <gtest/gtest.h>

#include <ddp/error.h>

namespace ddp::handshake {
namespace {

const std::string kToken = "correct horse battery staple";

struct Sides {
  ClientSide client;
  ServerSide server;
};

Sides make(const Terms& client, const Terms& server) {
  return {ClientSide(client), ServerSide(server)};
}

TEST(Handshake, SidesWithTheSameTermsAcceptEachOtherAndShareASessionKey) {
  for (const std::string& token : {kToken, std::string()}) {
    auto [client, server] = make({token, "store"}, {token, "store"});
    const Proof proof = client.prove(server.answer(client.hello()));
    client.check(server.judge(proof));
    EXPECT_FALSE(server.refused());
    EXPECT_EQ(client.session_key(), server.session_key());
  }
}

TEST(Handshake, EveryConnectionHasItsOwnSessionKey) {
  const auto key = [] {
    auto [client, server] = make({kToken, "store"}, {kToken, "store"});
    client.check(server.judge(client.prove(server.answer(client.hello()))));
    return client.session_key();
  };
  EXPECT_NE(key(), key());
}

TEST(Handshake, AnotherTokenOrPurposeIsRefusedByBothSides) {
  const Terms mine{kToken, "store"};
  for (const Terms& other : {Terms{"another horse, another stable", "store"}, Terms{kToken, "mesh"}}) {
    auto [client, server] = make(mine, other);
    const Verdict verdict = server.judge(client.prove(server.answer(client.hello())));
    EXPECT_TRUE(server.refused());
    EXPECT_THROW(client.check(verdict), RendezvousError);
    EXPECT_EQ(server.refusal().find(kToken), std::string::npos);
  }
}

TEST(Handshake, WithoutATokenAnotherPurposeIsStillRefused) {
  auto [client, server] = make({"", "store of job 1"}, {"", "store of job 2"});
  EXPECT_THROW(client.check(server.judge(client.prove(server.answer(client.hello())))), RendezvousError);
}

TEST(Handshake, ATokenOnOneSideOnlyIsAConfigErrorThatNamesTheVariables) {
  for (const bool client_has : {true, false}) {
    auto [client, server] =
        make({client_has ? kToken : "", "store"}, {client_has ? std::string() : kToken, "store"});
    const Hello answer = server.answer(client.hello());
    EXPECT_TRUE(server.refused());
    try {
      (void)client.prove(answer);
      FAIL() << "no error";
    } catch (const ConfigError& e) {
      EXPECT_NE(std::string(e.what()).find("DDP_JOB_TOKEN"), std::string::npos) << e.what();
    }
  }
}

TEST(Handshake, TlsOnOneSideOnlyIsAConfigErrorThatNamesTheOption) {
  for (const bool client_has : {true, false}) {
    auto [client, server] = make({kToken, "store", client_has}, {kToken, "store", !client_has});
    const Hello answer = server.answer(client.hello());
    EXPECT_TRUE(server.refused());
    try {
      (void)client.prove(answer);
      FAIL() << "no error";
    } catch (const ConfigError& e) {
      EXPECT_NE(std::string(e.what()).find("DDP_TLS"), std::string::npos) << e.what();
    }
  }
}

TEST(Handshake, AnotherVersionIsRefusedBeforeAnyProof) {
  auto [client, server] = make({kToken, "store"}, {kToken, "store"});
  Hello hello = client.hello();
  hello[4] = kVersion + 1;
  Hello answer = server.answer(hello);
  EXPECT_TRUE(server.refused());
  answer[4] = kVersion + 1;
  EXPECT_THROW((void)client.prove(answer), ConfigError);
}

TEST(Handshake, AStrangerGetsNoAnswer) {
  ServerSide server({kToken, "store"});
  Hello http{};
  std::copy_n("GET / HTTP/1.1\r\nHost: example.com\r\nUser", http.size(), http.begin());
  EXPECT_THROW((void)server.answer(http), RendezvousError);
  EXPECT_THROW((void)ClientSide({kToken, "store"}).prove(http), RendezvousError);
}

TEST(Handshake, ABusyServerIsAPeerFailureThatMayBeRetried) {
  auto [client, server] = make({kToken, "store"}, {kToken, "store"});
  EXPECT_THROW((void)client.prove(server.busy()), PeerFailure);
}

TEST(Handshake, ARecordedProofIsWorthlessInAnotherConnection) {
  ClientSide client({kToken, "store"});
  ServerSide first({kToken, "store"});
  const Proof recorded = client.prove(first.answer(client.hello()));
  EXPECT_EQ(first.judge(recorded)[6], 0);
  ServerSide second({kToken, "store"});
  (void)second.answer(client.hello());
  EXPECT_NE(second.judge(recorded)[6], 0);
  EXPECT_TRUE(second.refused());
}

TEST(Handshake, AReflectedProofIsNotAVerdict) {
  ClientSide client({kToken, "store"});
  ServerSide server({kToken, "store"});
  const Proof proof = client.prove(server.answer(client.hello()));
  Verdict forged{};
  std::copy(client.hello().begin(), client.hello().begin() + 8, forged.begin());
  std::copy(proof.begin(), proof.end(), forged.begin() + 8);
  EXPECT_THROW(client.check(forged), RendezvousError);
}

TEST(Handshake, NoSingleChangedBitOfAnyFrameIsAccepted) {
  for (std::size_t bit = 0; bit < 40 * 8; ++bit) {
    const auto flip = [bit](auto frame) {
      if (bit / 8 < frame.size()) frame[bit / 8] ^= static_cast<std::uint8_t>(1 << (bit % 8));
      return frame;
    };
    for (int frame = 0; frame < 4; ++frame) {
      if (frame == 2 && bit >= 256) continue;
      if ((frame == 3) && bit / 8 >= 4 && bit / 8 < 8 && bit / 8 != 6) continue;  // known, not read again
      ClientSide client({kToken, "store"});
      ServerSide server({kToken, "store"});
      const auto run = [&] {
        const Hello hello = frame == 0 ? flip(client.hello()) : client.hello();
        const Hello answer = server.answer(hello);
        const Proof proof = client.prove(frame == 1 ? flip(answer) : answer);
        const Verdict verdict = server.judge(frame == 2 ? flip(proof) : proof);
        client.check(frame == 3 ? flip(verdict) : verdict);
      };
      EXPECT_THROW(run(), Error) << "frame " << frame << " bit " << bit;
    }
  }
}

}  // namespace
}  // namespace ddp::handshake
