#include "libddp/rendezvous/tls.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ddp/error.h>

namespace ddp::tls {
namespace {

Digest key_of(std::uint8_t byte) {
  Digest key;
  key.fill(byte);
  return key;
}

struct Ends {
  Ends(const Digest& of_client, const Digest& of_server)
      : client(make_context(Role::kClient)->open(of_client)),
        server(make_context(Role::kServer)->open(of_server)) {}
  /// Carries bytes until neither has any.
  void carry() {
    for (;;) {
      const std::string there = client->take_wire();
      if (!there.empty()) server->receive(there);
      const std::string back = server->take_wire();
      if (!back.empty()) client->receive(back);
      if (there.empty() && back.empty()) return;
    }
  }
  std::unique_ptr<Channel> client, server;
};

std::string read_all(Channel& channel) {
  std::string text;
  char buffer[100];
  while (const std::size_t got = channel.read(buffer, sizeof buffer)) text.append(buffer, got);
  return text;
}

TEST(Tls, EndsWithTheSameKeyTalkBothWays) {
  Ends ends(key_of(1), key_of(1));
  ends.carry();
  ASSERT_TRUE(ends.client->established());
  ASSERT_TRUE(ends.server->established());
  ends.client->write("ping");
  ends.server->write("pong");
  const std::string wire = ends.client->take_wire();
  EXPECT_EQ(wire.find("ping"), std::string::npos);
  ends.server->receive(wire);
  ends.client->receive(ends.server->take_wire());
  EXPECT_EQ(read_all(*ends.server), "ping");
  EXPECT_EQ(read_all(*ends.client), "pong");
}

TEST(Tls, EndsWithDifferentKeysDoNotConnect) {
  Ends ends(key_of(1), key_of(2));
  EXPECT_THROW(ends.carry(), RendezvousError);
  EXPECT_FALSE(ends.client->established());
  EXPECT_FALSE(ends.server->established());
}

TEST(Tls, TwoClientsDoNotConnect) {
  const auto context = make_context(Role::kClient);
  const auto one = context->open(key_of(1)), other = context->open(key_of(1));
  EXPECT_THROW(one->receive(other->take_wire()), RendezvousError);
}

TEST(Tls, ARecordIsKnownToBeHalf) {
  Ends ends(key_of(1), key_of(1));
  ends.carry();
  ends.client->write("ping");
  const std::string wire = ends.client->take_wire();
  ends.server->receive(wire.substr(0, 3));
  EXPECT_TRUE(ends.server->in_record());
  EXPECT_EQ(read_all(*ends.server), "");
  ends.server->receive(wire.substr(3));
  EXPECT_FALSE(ends.server->in_record());
  EXPECT_EQ(read_all(*ends.server), "ping");
}

/// Nobody in the middle gets by with a certificate, or as a TLS 1.2 peer: driven by OpenSSL itself.
class Impostor {
 public:
  explicit Impostor(const SSL_METHOD* method) : context_(SSL_CTX_new(method), SSL_CTX_free) {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    EXPECT_EQ(SSL_CTX_use_certificate(context_.get(), certificate), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey(context_.get(), key), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    ssl_.reset(SSL_new(context_.get()));
    in_ = BIO_new(BIO_s_mem());
    out_ = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl_.get(), in_, out_);
  }
  [[nodiscard]] SSL* ssl() const { return ssl_.get(); }
  std::string exchange(const std::string& wire) {
    BIO_write(in_, wire.data(), static_cast<int>(wire.size()));
    finished_ = SSL_do_handshake(ssl_.get()) == 1;
    std::string answer(BIO_ctrl_pending(out_), '\0');
    if (!answer.empty()) BIO_read(out_, answer.data(), static_cast<int>(answer.size()));
    return answer;
  }
  [[nodiscard]] bool finished() const { return finished_; }

 private:
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, SSL_free};
  BIO* in_ = nullptr;
  BIO* out_ = nullptr;
  bool finished_ = false;
};

TEST(Tls, AServerWithACertificateInsteadOfTheKeyIsRefused) {
  Impostor impostor(TLS_server_method());
  SSL_set_accept_state(impostor.ssl());
  const auto client = make_context(Role::kClient)->open(key_of(1));
  const std::string offer = impostor.exchange(client->take_wire());
  ASSERT_GT(offer.size(), 200u) << "the impostor did not get as far as its certificate";
  EXPECT_THROW(client->receive(offer), RendezvousError);
  EXPECT_FALSE(client->established());
}

TEST(Tls, AClientWithoutTheKeyIsRefused) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    Impostor impostor(TLS_client_method());
    SSL_set_max_proto_version(impostor.ssl(), version);
    SSL_set_connect_state(impostor.ssl());
    const auto server = make_context(Role::kServer)->open(key_of(1));
    const std::string hello = impostor.exchange("");
    EXPECT_THROW(server->receive(hello), RendezvousError);
    EXPECT_FALSE(server->established());
    EXPECT_FALSE(impostor.finished());
  }
}

}  // namespace
}  // namespace ddp::tls
