// The accepting half of forming the mesh: many connections prove themselves at once, so that a stranger who
// connects and says nothing, or says nonsense, delays nobody.
//
// A connection begins with a Preamble in clear, which says who is calling; the handshake that follows proves
// it (the purpose names both ranks, the stream and the listener). One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include <poll.h>

#include <ddp/deadline.h>

#include "libddp/comm/host/tcp/socket.h"
#include "libddp/rendezvous/handshake.h"

namespace ddp::host {

struct Preamble {
  std::uint32_t magic = 0x43706464;  // "ddpC"
  std::int32_t from = 0;
  std::int32_t stream = 0;  ///< 0: control; 1 and on: data; the last one: messages
  std::uint32_t reserved = 0;
};
static_assert(sizeof(Preamble) == 16);

/// What the handshake of one connection is about.
[[nodiscard]] std::string purpose_of(const std::string& nonce, int from, int to, int stream);

class Acceptor {
 public:
  /// Told of a proven connection; whether it was wanted.
  using Arrived = std::function<bool(int from, int stream, FileDescriptor fd)>;

  Acceptor(const Listener& listener, std::string token, std::string nonce, int rank, Arrived arrived);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;
  /// Accepts and advances handshakes, waiting at most `timeout_ms`.
  void turn(int timeout_ms);
  /// Why the last caller was sent away; empty: nobody was.
  [[nodiscard]] const std::string& last_refusal() const { return last_refusal_; }

 private:
  struct Visitor;
  void welcome();
  [[nodiscard]] bool advance(Visitor& visitor);  // false: it is through, or gone
  void begin(Visitor& visitor);
  void refuse(const std::string& why);

  const Listener& listener_;
  std::string token_;
  std::string nonce_;
  int rank_;
  Arrived arrived_;
  std::list<Visitor> visitors_;
  std::string last_refusal_;
  int refusals_ = 0;
};

}  // namespace ddp::host
