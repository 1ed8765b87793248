#include "libddp/comm/host/tcp/socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <memory>

#include <ddp/error.h>

namespace ddp::host {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

void set_option(int fd, int level, int name, int value) {
  // A kernel that refuses an option costs speed or the early notice of a dead host, not correctness.
  (void)::setsockopt(fd, level, name, &value, sizeof value);
}

Addresses resolve(const std::string& address, std::uint16_t port, int flags, int& status) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  status = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list);
  return {status == 0 ? list : nullptr, &::freeaddrinfo};
}

Endpoint bound_endpoint(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  auto* name = reinterpret_cast<sockaddr*>(&storage);
  if (::getsockname(fd, name, &size) != 0 || ::getnameinfo(name, size, host.data(), host.size(), port.data(),
                                                           port.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    throw Error("cannot tell which address a listening socket is bound to");
  Endpoint endpoint{host.data(), 0};
  const std::string digits = port.data();
  std::from_chars(digits.data(), digits.data() + digits.size(), endpoint.port);
  return endpoint;
}

bool is_wildcard(const std::string& address) {
  return address == "0.0.0.0" || address == "::";
}

}  // namespace

std::string describe(const Endpoint& endpoint) {
  const bool colons = endpoint.address.find(':') != std::string::npos;
  return (colons ? "[" + endpoint.address + "]" : endpoint.address) + ":" + std::to_string(endpoint.port);
}

Listener listen_on(const std::string& address) {
  const std::string wanted = address.empty() ? "127.0.0.1" : address;
  const std::string what = "cannot listen on bind_address '" + wanted + "'";
  int status = 0;
  const Addresses found = resolve(wanted, 0, AI_PASSIVE, status);
  if (!found) throw ConfigError(what + ": " + ::gai_strerror(status));
  int error = 0;
  for (const addrinfo* a = found.get(); a != nullptr; a = a->ai_next) {
    FileDescriptor fd(::socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (fd && ::bind(fd.get(), a->ai_addr, a->ai_addrlen) == 0 && ::listen(fd.get(), SOMAXCONN) == 0) {
      Endpoint endpoint = bound_endpoint(fd.get());
      if (is_wildcard(endpoint.address))
        throw ConfigError(what + ": give the address at which the other hosts reach this one");
      return {std::move(fd), std::move(endpoint)};
    }
    error = errno;
  }
  throw ConfigError(errno_message(what, error) + " (it must be an address of this machine)");
}

FileDescriptor connect_to(const Endpoint& endpoint, Deadline deadline, const std::string& what) {
  const std::string where = what + " at " + describe(endpoint);
  int status = 0;
  const Addresses found = resolve(endpoint.address, endpoint.port, AI_NUMERICHOST, status);
  if (!found) throw RendezvousError(where + ": " + ::gai_strerror(status));
  FileDescriptor fd(::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) throw RendezvousError(errno_message(where + ": no socket", errno));
  if (::connect(fd.get(), found->ai_addr, found->ai_addrlen) == 0) return fd;
  int error = errno;
  if (error == EINPROGRESS || error == EINTR) {
    pollfd wait{fd.get(), POLLOUT, 0};
    while (::poll(&wait, 1, deadline.remaining_ms(1000)) <= 0)
      deadline.check(where + " does not answer (a firewall between the hosts?)");
    socklen_t size = sizeof error;
    (void)::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error != 0) throw RendezvousError(errno_message(where, error));
  return fd;
}

void tune_control(int fd) {
  constexpr int kDeadAfterMs = 15'000;
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 5);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 2);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 5);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kDeadAfterMs);
}

void tune_data(int fd) {
  // The kernel sizes the buffers by what the path needs (up to tcp_rmem and tcp_wmem, usually megabytes);
  // sizes set by hand would be capped lower. What is not yet sent is kept short, so that the next part goes
  // to the connection that is fastest now.
  constexpr int kUnsent = 512 * 1024;
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, kUnsent);
}

}  // namespace ddp::host
