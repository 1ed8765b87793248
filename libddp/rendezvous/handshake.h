// The mutual challenge-response that opens every connection of a job, without any input or output: bytes in, bytes out.
//
//   1. client -> server  Hello    magic "ddpH", version, flags, status 0, 0, 32 random bytes
//   2. server -> client  Hello    the same with the server's flags and random bytes; its status tells why it refuses
//   3. client -> server  Proof    HMAC(key, "client" | 0 | both hellos | purpose)
//   4. server -> client  Verdict  the first 8 bytes of its hello with a status, and HMAC(key, "server" | ...)
//
// key = HMAC-SHA-256(token, "ddp handshake 1"). The roles are part of what is hashed, so an answer cannot be
// reflected; both random values are, so a recorded answer is worth nothing in another connection. The client
// proves first: whoever merely connects learns nothing derived from the token.
//
// Objects belong to one thread at a time and serve one connection.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "libddp/rendezvous/auth.h"

namespace ddp::handshake {

inline constexpr std::uint8_t kVersion = 1;

using Hello = std::array<std::uint8_t, 40>;
using Proof = Digest;
using Verdict = std::array<std::uint8_t, 40>;

/// What a side brings: both sides must agree on every part.
struct Terms {
  std::string token;    ///< empty: none
  std::string purpose;  ///< what the connection is for, at most 64 KiB
  bool tls = false;     ///< TLS-PSK follows the handshake
};

/// Why a server refuses; travels in byte 6 of Hello and Verdict.
enum class Status : std::uint8_t { kOk = 0, kVersion = 1, kTerms = 2, kBusy = 3, kProof = 4 };

class ClientSide {
 public:
  explicit ClientSide(Terms terms);
  [[nodiscard]] const Hello& hello() const { return hello_; }
  /// Throws RendezvousError (not libddp), ConfigError (version, token or TLS on one side only), PeerFailure
  /// (the server has no room now).
  [[nodiscard]] Proof prove(const Hello& server);
  /// Throws RendezvousError when the server refused or could not prove itself.
  void check(const Verdict& verdict) const;
  /// A key that only this connection has; valid after check().
  [[nodiscard]] Digest session_key() const;

 private:
  Terms terms_;
  Hello hello_;
  Hello server_{};
};

class ServerSide {
 public:
  explicit ServerSide(Terms terms);
  /// The answer to a client's hello; refused() tells whether it is also the last word. Throws RendezvousError
  /// when the peer is not libddp: such a peer gets no answer.
  [[nodiscard]] Hello answer(const Hello& client);
  /// Likewise the verdict about a proof.
  [[nodiscard]] Verdict judge(const Proof& proof);
  /// An answer that sends the client away for now.
  [[nodiscard]] Hello busy();
  [[nodiscard]] bool refused() const { return !refusal_.empty(); }
  [[nodiscard]] const std::string& refusal() const { return refusal_; }
  [[nodiscard]] Digest session_key() const;

 private:
  Terms terms_;
  Hello hello_;
  Hello client_{};
  std::string refusal_;
};

}  // namespace ddp::handshake
