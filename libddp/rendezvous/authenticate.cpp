// The handshake over a descriptor: poll, then a non-blocking read or write, until the deadline.
#include "libddp/rendezvous/authenticate.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include <ddp/error.h>

#include "libddp/core/fd.h"

namespace ddp {
namespace {

class Pipe {
 public:
  Pipe(int fd, const std::string& purpose, Deadline deadline)
      : fd_(fd), what_("handshake for '" + purpose + "'"), deadline_(deadline) {}

  template <std::size_t N>
  std::array<std::uint8_t, N> receive() const {
    std::array<std::uint8_t, N> bytes{};
    for (std::size_t done = 0; done < N;) {
      const ssize_t got = ::recv(fd_, bytes.data() + done, N - done, MSG_DONTWAIT);
      if (got == 0) throw PeerFailure(what_ + ": the peer closed the connection");
      done += progress(got, POLLIN);
    }
    return bytes;
  }

  void send(std::span<const std::uint8_t> bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      bytes = bytes.subspan(progress(sent, POLLOUT));
    }
  }

 private:
  /// What a call moved; waits when it could not.
  std::size_t progress(ssize_t moved, short event) const {
    deadline_.check(what_ + ": the peer is silent");
    if (moved >= 0) return static_cast<std::size_t>(moved);
    if (errno == EINTR) return 0;
    if (errno != EAGAIN && errno != EWOULDBLOCK) throw PeerFailure(errno_message(what_, errno));
    pollfd wait{fd_, event, 0};
    (void)::poll(&wait, 1, deadline_.remaining_ms(60'000));
    return 0;
  }

  int fd_;
  std::string what_;
  Deadline deadline_;
};

}  // namespace

Digest run_client_handshake(int fd, const handshake::Terms& terms, Deadline deadline) {
  const Pipe pipe(fd, terms.purpose, deadline);
  handshake::ClientSide client(terms);
  pipe.send(client.hello());
  pipe.send(client.prove(pipe.receive<std::tuple_size_v<handshake::Hello>>()));
  client.check(pipe.receive<std::tuple_size_v<handshake::Verdict>>());
  return client.session_key();
}

Digest run_server_handshake(int fd, const handshake::Terms& terms, Deadline deadline) {
  const Pipe pipe(fd, terms.purpose, deadline);
  handshake::ServerSide server(terms);
  pipe.send(server.answer(pipe.receive<std::tuple_size_v<handshake::Hello>>()));
  if (server.refused()) throw ConfigError(server.refusal());
  pipe.send(server.judge(pipe.receive<std::tuple_size_v<handshake::Proof>>()));
  if (server.refused()) throw RendezvousError(server.refusal());
  return server.session_key();
}

void authenticate_client(int fd, std::string_view token, std::string_view purpose, Deadline deadline) {
  (void)run_client_handshake(fd, {std::string(token), std::string(purpose), false}, deadline);
}

void authenticate_server(int fd, std::string_view token, std::string_view purpose, Deadline deadline) {
  (void)run_server_handshake(fd, {std::string(token), std::string(purpose), false}, deadline);
}

}  // namespace ddp
