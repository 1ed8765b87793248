// A client of the store that can misbehave: below TLS, inside of it, or before either.
//
//   RawClient client = RawClient::trusted(server.port(), kToken);   // proven, and encrypted where it should be
//   client.send(half_a_frame);
//   EXPECT_TRUE(client.closed_by_server());
//
// One thread.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <memory>
#include <string>

#include <ddp/deadline.h>

#include "libddp/core/fd.h"
#include "libddp/rendezvous/authenticate.h"
#include "libddp/rendezvous/connect.h"
#include "libddp/rendezvous/store_connection.h"
#include "libddp/rendezvous/store_wire.h"
#include "libddp/rendezvous/tls.h"

namespace ddp {

/// A request as bytes.
inline std::string request(store_wire::Op op, const std::string& key, const std::string& value = {},
                           std::uint64_t number = 0) {
  store_wire::Request request;
  request.op = op;
  request.key = key;
  request.value = value;
  request.number = number;
  return store_wire::encode(request);
}

class RawClient {
 public:
  static RawClient connected(std::uint16_t port) {
    RawClient client;
    client.fd_ = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(client.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    set_tcp_options(client.fd());
    return client;
  }
  /// Through the handshake, and not further.
  static RawClient proven(std::uint16_t port, const std::string& token) {
    RawClient client = connected(port);
    client.session_key_ = run_client_handshake(client.fd(), store_terms(token), patience());
    return client;
  }
  static RawClient trusted(std::uint16_t port, const std::string& token) {
    RawClient client = proven(port, token);
    if (store_terms(token).tls) client.secure();
    return client;
  }

  void secure() {
    channel_ = open_channel();
    send_wire(channel_->take_wire());
    char buffer[4096];
    while (!channel_->established()) {
      const ssize_t got = ::recv(fd(), buffer, sizeof buffer, 0);
      ASSERT_GT(got, 0) << "the server ended the TLS handshake";
      channel_->receive({buffer, static_cast<std::size_t>(got)});
    }
    send_wire(channel_->take_wire());
  }
  [[nodiscard]] std::unique_ptr<tls::Channel> open_channel() const {
    return tls::make_context(tls::Role::kClient)->open(session_key_);
  }

  void send(const std::string& plain) { send_wire(encrypt(plain)); }
  /// What send() would put on the wire.
  [[nodiscard]] std::string encrypt(const std::string& plain) {
    if (!channel_) return plain;
    channel_->write(plain);
    return channel_->take_wire();
  }
  void send_wire(const std::string& bytes) const {
    (void)::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  void half_close() const { ::shutdown(fd(), SHUT_WR); }

  /// Whether the server closes the connection, after whatever it still says.
  [[nodiscard]] bool closed_by_server() const {
    char buffer[4096];
    for (const Deadline deadline = patience(); !deadline.passed();) {
      pollfd entry{fd(), POLLIN, 0};
      if (::poll(&entry, 1, deadline.remaining_ms()) > 0 && ::recv(fd(), buffer, sizeof buffer, 0) <= 0)
        return true;
    }
    return false;
  }
  /// Bytes that came, at most `most`; fewer when the connection ended or nothing came for long.
  [[nodiscard]] std::size_t drain(std::size_t most) const {
    std::string buffer(std::size_t{1} << 20, '\0');
    std::size_t total = 0;
    while (total < most) {
      pollfd entry{fd(), POLLIN, 0};
      if (::poll(&entry, 1, patience().remaining_ms()) <= 0) break;
      const ssize_t got = ::recv(fd(), buffer.data(), std::min(buffer.size(), most - total), 0);
      if (got <= 0) break;
      total += static_cast<std::size_t>(got);
    }
    return total;
  }
  /// Whether the connection is open and silent.
  [[nodiscard]] bool open_and_silent() const {
    char byte = 0;
    return ::recv(fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
  }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  static Deadline patience() { return Deadline::in(std::chrono::seconds(30)); }

  FileDescriptor fd_;
  Digest session_key_{};
  std::unique_ptr<tls::Channel> channel_;
};

}  // namespace ddp
