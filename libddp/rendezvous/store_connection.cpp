#include "libddp/rendezvous/store_connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include <ddp/error.h>

#include "libddp/rendezvous/authenticate.h"
#include "libddp/rendezvous/store_wire.h"

namespace ddp {
namespace {

/// What is encrypted at once: a value of 16 MiB does not need 16 MiB more.
constexpr std::size_t kSlice = std::size_t{256} << 10;
constexpr std::size_t kReceiveBuffer = std::size_t{64} << 10;

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

void wait_for(int fd, short event, Deadline deadline) {
  pollfd entry{fd, event, 0};
  (void)::poll(&entry, 1, deadline.remaining_ms(60'000));
}

}  // namespace

handshake::Terms store_terms(const std::string& token) {
  return {token, store_wire::kPurpose, !token.empty() && tls::available()};
}

StoreConnection::StoreConnection(FileDescriptor socket, const std::string& token, Deadline deadline)
    : socket_(std::move(socket)), guard_({socket_.get()}) {
  const handshake::Terms terms = store_terms(token);
  const Digest session_key = run_client_handshake(socket_.get(), terms, deadline);
  if (terms.tls) secure(session_key, deadline);
}

void StoreConnection::secure(const Digest& session_key, Deadline deadline) {
  auto channel = tls::make_context(tls::Role::kClient)->open(session_key);
  char buffer[4096];
  for (;;) {
    send_all(channel->take_wire(), deadline);
    if (channel->established()) break;
    channel->receive({buffer, receive_some(buffer, sizeof buffer, deadline)});
  }
  channel_ = std::move(channel);
}

void StoreConnection::send(std::string_view bytes, Deadline deadline, const std::string& what) {
  wait_writable(deadline, what);
  if (!channel_) return send_all(bytes, deadline);
  while (!bytes.empty()) {
    std::string wire;
    {
      const std::scoped_lock lock(channel_mutex_);
      channel_->write(bytes.substr(0, kSlice));
      wire = channel_->take_wire();
    }
    bytes.remove_prefix(std::min(bytes.size(), kSlice));
    send_all(wire, deadline);
  }
}

/// After this something goes out, and a frame that has begun must go out whole.
void StoreConnection::wait_writable(Deadline deadline, const std::string& what) const {
  pollfd entry{socket_.get(), POLLOUT, 0};
  while (::poll(&entry, 1, deadline.remaining_ms(60'000)) <= 0) deadline.check("sending " + what);
}

/// A frame that could not be sent whole would garble all that follows.
void StoreConnection::send_all(std::string_view bytes, Deadline deadline) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      continue;
    }
    if (!would_block(errno)) throw RendezvousError(errno_message("cannot send", errno));
    wait_for(socket_.get(), POLLOUT, deadline);
    if (deadline.passed()) throw RendezvousError("a request could not be sent within its deadline");
  }
}

std::size_t StoreConnection::receive_some(char* to, std::size_t size, Deadline deadline) const {
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), to, size, MSG_DONTWAIT);
    if (got > 0) return static_cast<std::size_t>(got);
    if (got == 0) throw PeerFailure("the server closed it; has the process that hosts it ended?");
    if (!would_block(errno)) throw RendezvousError(errno_message("cannot receive", errno));
    wait_for(socket_.get(), POLLIN, deadline);
    deadline.check("waiting for the store's server to finish the TLS handshake");
  }
}

std::size_t StoreConnection::receive_plain(char* to, std::size_t size) {
  if (!channel_) return receive_some(to, size, Deadline::never());
  char wire[kReceiveBuffer];
  for (;;) {
    {
      const std::scoped_lock lock(channel_mutex_);
      if (const std::size_t got = channel_->read(to, size)) return got;
    }
    const std::size_t got = receive_some(wire, sizeof wire, Deadline::never());
    const std::scoped_lock lock(channel_mutex_);
    channel_->receive({wire, got});
  }
}

void StoreConnection::receive(char* to, std::size_t size) {
  while (size > 0) {
    const std::size_t got = receive_plain(to, size);
    to += got;
    size -= got;
  }
}

void StoreConnection::shutdown() noexcept {
  ::shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace ddp
