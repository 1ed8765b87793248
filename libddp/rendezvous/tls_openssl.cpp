// TLS by OpenSSL, over memory instead of a socket.
//
//   1. The key of the connection is HMAC-SHA-256(session key, "ddp store tls 1"), an external PSK with SHA-256.
//   2. Key exchange is always (EC)DHE besides the PSK: a token that leaks later opens no recorded connection.
//   3. The server has no certificate, so a client without the PSK gets nowhere. The client accepts none
//      (SSL_VERIFY_PEER without any trusted root) and checks that the PSK was used: a man in the middle who
//      offers a certificate instead is refused.
//   4. No tickets, no resumption, no early data: nothing that could be replayed or has to be remembered.
//   5. OpenSSL gets whole records only. Half a record costs at most its own bytes, and is known to be half.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <cstring>

#include <ddp/error.h>

#include "libddp/rendezvous/tls.h"

namespace ddp::tls {
namespace {

constexpr std::string_view kKeyLabel = "ddp store tls 1";
constexpr std::string_view kIdentity = "ddp";
/// Two suites of one hash, that of the PSK. AES for machines that must follow FIPS.
constexpr const char* kSuites = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
constexpr unsigned char kPskSuite[2] = {0x13, 0x01};
constexpr const char* kGroups = "X25519:P-256";
constexpr std::size_t kRecordHeader = 5;
constexpr std::size_t kLongestRecord = 16384 + 256;  // RFC 8446, 5.2

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using ContextPointer = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using SslPointer = std::unique_ptr<SSL, Freed<SSL_free>>;
using SessionPointer = std::unique_ptr<SSL_SESSION, Freed<SSL_SESSION_free>>;

std::string last_reason() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason != nullptr ? reason : "no reason given";
}

void require(bool good, const char* what) {
  if (!good) throw Error(std::string("OpenSSL cannot ") + what + ": " + last_reason());
}

SessionPointer psk_session(SSL* ssl, const Digest& key) {
  SessionPointer session(SSL_SESSION_new());
  const SSL_CIPHER* suite = SSL_CIPHER_find(ssl, kPskSuite);
  require(session != nullptr && suite != nullptr &&
              SSL_SESSION_set1_master_key(session.get(), key.data(), key.size()) == 1 &&
              SSL_SESSION_set_cipher(session.get(), suite) == 1 &&
              SSL_SESSION_set_protocol_version(session.get(), TLS1_3_VERSION) == 1,
          "make a pre-shared key");
  return session;
}

class OpensslChannel final : public Channel {
 public:
  OpensslChannel(SSL_CTX* context, Role role, const Digest& key)
      : ssl_(SSL_new(context)), is_client_(role == Role::kClient) {
    require(ssl_ != nullptr, "make a connection");
    from_peer_ = BIO_new(BIO_s_mem());
    to_peer_ = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl_.get(), from_peer_, to_peer_);
    require(from_peer_ != nullptr && to_peer_ != nullptr, "make a buffer");
    psk_ = psk_session(ssl_.get(), key);
    SSL_set_app_data(ssl_.get(), this);
    is_client_ ? SSL_set_connect_state(ssl_.get()) : SSL_set_accept_state(ssl_.get());
    if (is_client_) shake_hands();
  }

  void receive(std::string_view wire) override {
    pending_ += wire;
    std::size_t taken = 0;
    while (const std::size_t record = whole_record(std::string_view(pending_).substr(taken))) {
      require(BIO_write(from_peer_, pending_.data() + taken, static_cast<int>(record)) ==
                  static_cast<int>(record),
              "buffer a record");
      taken += record;
    }
    pending_.erase(0, taken);
    if (taken > 0 && !established()) shake_hands();
  }

  std::string take_wire() override {
    std::string wire(BIO_ctrl_pending(to_peer_), '\0');
    if (!wire.empty()) BIO_read(to_peer_, wire.data(), static_cast<int>(wire.size()));
    return wire;
  }

  bool established() const override { return established_; }

  void write(std::string_view plain) override {
    std::size_t written = 0;
    ERR_clear_error();
    if (!plain.empty() && SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &written) != 1) fail(0);
  }

  std::size_t read(char* to, std::size_t size) override {
    std::size_t got = 0;
    ERR_clear_error();
    const int result = SSL_read_ex(ssl_.get(), to, size, &got);
    if (result != 1) fail(result);
    return got;
  }

  bool in_record() const override { return !pending_.empty(); }

  /// The key for this connection if the peer asks for it by its name.
  static int find_psk(SSL* ssl, const unsigned char* identity, std::size_t length, SSL_SESSION** session) {
    const auto* self = static_cast<const OpensslChannel*>(SSL_get_app_data(ssl));
    const bool mine = kIdentity == std::string_view(reinterpret_cast<const char*>(identity), length);
    *session = mine ? self->share_psk() : nullptr;
    return 1;
  }
  static int use_psk(SSL* ssl, const EVP_MD*, const unsigned char** identity, std::size_t* length,
                     SSL_SESSION** session) {
    *identity = reinterpret_cast<const unsigned char*>(kIdentity.data());
    *length = kIdentity.size();
    *session = static_cast<const OpensslChannel*>(SSL_get_app_data(ssl))->share_psk();
    return 1;
  }

 private:
  /// OpenSSL takes the reference it is given.
  SSL_SESSION* share_psk() const {
    SSL_SESSION_up_ref(psk_.get());
    return psk_.get();
  }

  /// The length of the record that `bytes` begin with; 0 when it is not complete.
  static std::size_t whole_record(std::string_view bytes) {
    if (bytes.size() < kRecordHeader) return 0;
    const auto byte = [&](std::size_t i) {
      return static_cast<std::size_t>(static_cast<unsigned char>(bytes[i]));
    };
    const std::size_t length = (byte(3) << 8) | byte(4);
    if (byte(0) < 20 || byte(0) > 23 || byte(1) != 3 || length > kLongestRecord)
      throw RendezvousError("TLS: the peer sent something else than TLS");
    return bytes.size() < kRecordHeader + length ? 0 : kRecordHeader + length;
  }

  void shake_hands() {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result != 1) return fail(result);
    if (SSL_session_reused(ssl_.get()) != 1)
      throw RendezvousError("TLS: the peer did not use the key made from the job token");
    established_ = true;
  }

  /// Returns when OpenSSL only wants more bytes.
  void fail(int result) {
    const int error = SSL_get_error(ssl_.get(), result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return;
    const std::string where = established_ ? "the encrypted connection was damaged or tampered with"
                                           : "the peer could not prove its key, or somebody is in between";
    throw RendezvousError("TLS: " + where + " (" +
                          (error == SSL_ERROR_ZERO_RETURN ? "closed" : last_reason()) + ")");
  }

  SslPointer ssl_;
  BIO* from_peer_ = nullptr;
  BIO* to_peer_ = nullptr;
  SessionPointer psk_;
  std::string pending_;  ///< of a record that is not complete
  bool is_client_;
  bool established_ = false;
};

class OpensslContext final : public Context {
 public:
  explicit OpensslContext(Role role)
      : role_(role),
        context_(SSL_CTX_new(role == Role::kClient ? TLS_client_method() : TLS_server_method())) {
    require(context_ != nullptr, "start TLS");
    SSL_CTX* c = context_.get();
    require(SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) == 1 &&
                SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) == 1 &&
                SSL_CTX_set_ciphersuites(c, kSuites) == 1 && SSL_CTX_set1_groups_list(c, kGroups) == 1 &&
                SSL_CTX_set_num_tickets(c, 0) == 1,
            "be set up for TLS 1.3");
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);  // a thousand idle connections
    SSL_CTX_clear_options(c, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_CTX_set_verify(c, role == Role::kClient ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    SSL_CTX_set_psk_find_session_callback(c, OpensslChannel::find_psk);
    SSL_CTX_set_psk_use_session_callback(c, OpensslChannel::use_psk);
  }

  std::unique_ptr<Channel> open(const Digest& session_key) const override {
    return std::make_unique<OpensslChannel>(context_.get(), role_, hmac_sha256(session_key, kKeyLabel));
  }

 private:
  Role role_;
  ContextPointer context_;
};

}  // namespace

bool available() {
  return true;
}

std::unique_ptr<Context> make_context(Role role) {
  return std::make_unique<OpensslContext>(role);
}

}  // namespace ddp::tls
