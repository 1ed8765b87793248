// TLS 1.3 with a pre-shared key, without any input or output: bytes in, bytes out. No certificates: whoever
// holds the key is who he should be. docs/store-protocol.md says which parameters, and why.
//
//   const auto context = ddp::tls::make_context(ddp::tls::Role::kClient);
//   auto channel = context->open(session_key);               // of handshake.h: a key of this connection only
//   to_peer(channel->take_wire());                           // and after each receive() and write()
//   channel->receive(bytes_from_peer);                       // throws when they are not what the peer sent
//   channel->write("plain text"); channel->read(buffer, sizeof buffer);
//
// One of tls_openssl.cpp and tls_none.cpp is built in (CMake option DDP_TLS). A context may be used from any
// thread, a channel belongs to one thread at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "libddp/rendezvous/auth.h"

namespace ddp::tls {

/// Whether this build can encrypt.
[[nodiscard]] bool available();

enum class Role { kClient, kServer };

/// One end of one connection. Every function throws RendezvousError when the peer broke TLS, holds another
/// key, or somebody between changed a byte; the channel is of no use after that.
class Channel {
 public:
  Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  virtual ~Channel() = default;

  /// Takes what came from the wire.
  virtual void receive(std::string_view wire) = 0;
  /// Gives and forgets what has to go to the wire.
  [[nodiscard]] virtual std::string take_wire() = 0;
  /// Both sides have proven that they hold the key, and read() and write() may be called.
  [[nodiscard]] virtual bool established() const = 0;
  virtual void write(std::string_view plain) = 0;
  /// Decrypted bytes, at most `size`; 0 when there are none yet.
  [[nodiscard]] virtual std::size_t read(char* to, std::size_t size) = 0;
  /// A record has begun to arrive and is not complete.
  [[nodiscard]] virtual bool in_record() const = 0;
};

/// What connections of one role share.
class Context {
 public:
  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  virtual ~Context() = default;
  /// `session_key`: shared with the peer and with nobody else, new for every connection.
  [[nodiscard]] virtual std::unique_ptr<Channel> open(const Digest& session_key) const = 0;
};

/// Throws Error when this build, or the OpenSSL it runs with, cannot do it.
[[nodiscard]] std::unique_ptr<Context> make_context(Role role);

}  // namespace ddp::tls
