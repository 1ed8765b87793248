#include "libddp/comm/host/tcp/acceptor.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>

#include <ddp/error.h>
#include <ddp/log.h>

namespace ddp::host {
namespace {

constexpr auto kHandshakeTime = std::chrono::seconds(10);
constexpr std::size_t kMostVisitors = 512;
constexpr int kMostReports = 10;

/// A handful of bytes on a fresh connection always fit; a peer for whom they do not is not one of ours.
template <std::size_t N>
void reply(int fd, const std::array<std::uint8_t, N>& bytes) {
  if (::send(fd, bytes.data(), N, MSG_DONTWAIT | MSG_NOSIGNAL) != static_cast<ssize_t>(N))
    throw PeerFailure("cannot answer");
}

}  // namespace

struct Acceptor::Visitor {
  enum class Stage { kPreamble, kHello, kProof };
  FileDescriptor fd;
  Deadline deadline = Deadline::in(kHandshakeTime);
  Stage stage = Stage::kPreamble;
  std::array<std::uint8_t, 40> buffer{};
  std::size_t got = 0;
  Preamble preamble;
  std::optional<handshake::ServerSide> server;

  [[nodiscard]] std::size_t wanted() const {
    return stage == Stage::kPreamble ? sizeof(Preamble)
           : stage == Stage::kHello  ? sizeof(handshake::Hello)
                                     : sizeof(handshake::Proof);
  }
  template <class Message>
  [[nodiscard]] Message message() const {
    Message result;
    std::memcpy(&result, buffer.data(), sizeof result);
    return result;
  }
};

std::string purpose_of(const std::string& nonce, int from, int to, int stream) {
  return "tcp group " + nonce + ", rank " + std::to_string(from) + " to rank " + std::to_string(to) +
         ", stream " + std::to_string(stream);
}

Acceptor::Acceptor(const Listener& listener, std::string token, std::string nonce, int rank, Arrived arrived)
    : listener_(listener),
      token_(std::move(token)),
      nonce_(std::move(nonce)),
      rank_(rank),
      arrived_(std::move(arrived)) {}

Acceptor::~Acceptor() = default;

void Acceptor::turn(int timeout_ms) {
  std::vector<pollfd> waits{{listener_.fd.get(), POLLIN, 0}};
  for (const Visitor& visitor : visitors_) waits.push_back({visitor.fd.get(), POLLIN, 0});
  (void)::poll(waits.data(), waits.size(), timeout_ms);
  std::size_t i = 1;
  for (auto visitor = visitors_.begin(); visitor != visitors_.end(); ++i)
    if ((waits[i].revents != 0 && !advance(*visitor)) || visitor->deadline.passed())
      visitor = visitors_.erase(visitor);
    else
      ++visitor;
  if (waits[0].revents != 0) welcome();
}

void Acceptor::welcome() {
  for (;;) {
    FileDescriptor fd(::accept4(listener_.fd.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd) {
      // No descriptors left: whoever has been silent longest goes.
      if ((errno == EMFILE || errno == ENFILE) && !visitors_.empty()) visitors_.pop_front();
      return;
    }
    if (visitors_.size() >= kMostVisitors) visitors_.pop_front();
    visitors_.emplace_back();
    visitors_.back().fd = std::move(fd);
  }
}

bool Acceptor::advance(Visitor& visitor) {
  try {
    for (;;) {
      const ssize_t n = ::recv(visitor.fd.get(), visitor.buffer.data() + visitor.got,
                               visitor.wanted() - visitor.got, MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return true;
      if (n <= 0) throw PeerFailure("it closed the connection");
      visitor.got += static_cast<std::size_t>(n);
      if (visitor.got < visitor.wanted()) continue;
      visitor.got = 0;
      if (visitor.stage == Visitor::Stage::kPreamble) {
        begin(visitor);
        visitor.stage = Visitor::Stage::kHello;
      } else if (visitor.stage == Visitor::Stage::kHello) {
        reply(visitor.fd.get(), visitor.server->answer(visitor.message<handshake::Hello>()));
        if (visitor.server->refused()) throw RendezvousError(visitor.server->refusal());
        visitor.stage = Visitor::Stage::kProof;
      } else {
        reply(visitor.fd.get(), visitor.server->judge(visitor.message<handshake::Proof>()));
        if (visitor.server->refused()) throw RendezvousError(visitor.server->refusal());
        if (!arrived_(visitor.preamble.from, visitor.preamble.stream, std::move(visitor.fd)))
          throw RendezvousError("that connection is already there or not wanted");
        return false;
      }
    }
  } catch (const Error& error) {
    refuse(error.what());
    return false;
  }
}

void Acceptor::begin(Visitor& visitor) {
  visitor.preamble = visitor.message<Preamble>();
  const Preamble& p = visitor.preamble;
  if (p.magic != Preamble{}.magic) throw RendezvousError("it is not libddp");
  visitor.server.emplace(handshake::Terms{token_, purpose_of(nonce_, p.from, rank_, p.stream), false});
}

void Acceptor::refuse(const std::string& why) {
  last_refusal_ = why;
  if (++refusals_ > kMostReports) return;  // a port scanner must not fill the log
  log::warn("sent a caller away", {{"port", listener_.endpoint.port}, {"reason", why}});
}

}  // namespace ddp::host
