#include "libddp/rendezvous/connect.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include <ddp/error.h>

namespace ddp {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Of one attempt at one address: a machine that swallows packets must not use up the whole deadline.
constexpr seconds kAttempt{10};
/// Who answers, but with another token or another protocol, may be an earlier job that is about to end; not for longer.
constexpr seconds kRefusals{3};
constexpr milliseconds kFirstPause{20};
constexpr milliseconds kLongestPause{1000};

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

/// Throws RendezvousError with the resolver's reason.
std::vector<Address> resolve(const StoreEndpoint& endpoint, int type) {
  addrinfo hints{};
  hints.ai_socktype = type;
  addrinfo* list = nullptr;
  const int error =
      ::getaddrinfo(endpoint.address.c_str(), std::to_string(endpoint.port).c_str(), &hints, &list);
  if (error != 0)
    throw RendezvousError("cannot resolve '" + endpoint.address +
                          "': " + (error == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(error)));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, ::freeaddrinfo);
  std::vector<Address> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    Address address;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.length = entry->ai_addrlen;
    addresses.push_back(address);
  }
  return addresses;
}

std::vector<Address> addresses_of(const StoreEndpoint& endpoint) {
  if (!endpoint.address.starts_with("unix:")) return resolve(endpoint, SOCK_STREAM);
  Address address;
  auto& local = reinterpret_cast<sockaddr_un&>(address.storage);
  local.sun_family = AF_UNIX;
  const std::string name = endpoint.address.substr(6);
  if (name.size() + 1 > sizeof local.sun_path)
    throw ConfigError("socket name '" + endpoint.address + "' is too long");
  std::memcpy(local.sun_path + 1, name.data(), name.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return {address};
}

/// Throws PeerFailure with errno's text: a server that is not there yet may come.
FileDescriptor connect_to(const Address& address, Deadline deadline) {
  FileDescriptor fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw PeerFailure(errno_message("cannot open a socket", errno));
  int error = 0;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0)
    error = errno;
  if (error == EINPROGRESS) {
    pollfd entry{fd.get(), POLLOUT, 0};
    while (::poll(&entry, 1, deadline.remaining_ms()) <= 0)
      if (deadline.passed()) throw PeerFailure("no answer within " + to_string(deadline.timeout()));
    socklen_t length = sizeof error;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  }
  if (error != 0) throw PeerFailure(std::strerror(error));
  return fd;
}

/// What became of the attempts so far.
struct Tries {
  std::string why = "not tried";
  std::optional<Clock::time_point> refused_since;  ///< by a peer that was reached, not by the network
};

std::unique_ptr<StoreConnection> attempt(const StoreEndpoint& endpoint, const Address& address,
                                         const std::string& token, Deadline deadline, Tries& tries) {
  FileDescriptor fd = connect_to(address, Deadline::in(kAttempt).min(deadline));
  if (address.storage.ss_family != AF_UNIX) {
    set_tcp_options(fd.get());
  } else if (!same_user(fd.get())) {
    throw RendezvousError("another user of this machine listens there");
  }
  try {
    return std::make_unique<StoreConnection>(std::move(fd), token, Deadline::in(kAttempt).min(deadline));
  } catch (const ConfigError& error) {  // trying again cannot help
    throw ConfigError("store at " + endpoint.describe() + ": " + error.what());
  } catch (const RendezvousError&) {
    if (!tries.refused_since) tries.refused_since = Clock::now();
    throw;
  }
}

/// One attempt at every address. Null when none worked.
std::unique_ptr<StoreConnection> attempt_all(const StoreEndpoint& endpoint, const std::string& token,
                                             Deadline deadline, Tries& tries) {
  std::vector<Address> addresses;
  try {
    addresses = addresses_of(endpoint);
  } catch (const RendezvousError& error) {
    tries.why = error.what();
  }
  for (const Address& address : addresses) {
    try {
      return attempt(endpoint, address, token, deadline, tries);
    } catch (const ConfigError&) {
      throw;
    } catch (const Error& error) {
      tries.why = error.what();
    }
  }
  return nullptr;
}

}  // namespace

void set_tcp_options(int socket) {
  const int on = 1, idle = 15, interval = 5, probes = 3;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

bool same_user(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  return peer.uid == ::getuid() || peer.uid == 0;
}

std::unique_ptr<StoreConnection> connect_to_store(const StoreEndpoint& endpoint, const std::string& token,
                                                  Deadline deadline) {
  Tries tries;
  milliseconds pause = kFirstPause;
  for (;;) {
    if (auto connection = attempt_all(endpoint, token, deadline, tries)) return connection;
    if (deadline.remaining() <= kFirstPause)
      throw TimeoutError("cannot reach the store at " + endpoint.describe() + " within " +
                         to_string(deadline.timeout()) + ": " + tries.why +
                         "; does rank 0 run, and do MASTER_ADDR and MASTER_PORT name its machine?");
    if (tries.refused_since && Clock::now() - *tries.refused_since > kRefusals)
      throw ConfigError("store at " + endpoint.describe() + ": " + tries.why);
    // The last attempt comes shortly before the deadline.
    std::this_thread::sleep_for(
        std::min<std::chrono::nanoseconds>(pause, deadline.remaining() - kFirstPause / 2));
    pause = std::min(2 * pause, kLongestPause);
  }
}

/// A connected datagram socket sends nothing, but the kernel chooses the route and with it the local address.
std::string local_address_towards(const std::string& host) {
  try {
    for (const Address& address : resolve({host, 9}, SOCK_DGRAM)) {
      const FileDescriptor fd(::socket(address.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      Address local;
      local.length = sizeof local.storage;
      if (!fd ||
          ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) != 0 ||
          ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&local.storage), &local.length) != 0)
        continue;
      char text[NI_MAXHOST] = {};
      if (::getnameinfo(reinterpret_cast<const sockaddr*>(&local.storage), local.length, text, sizeof text,
                        nullptr, 0, NI_NUMERICHOST) == 0)
        return text;
    }
  } catch (const Error&) {
    return {};  // the name is not known yet
  }
  return {};
}

}  // namespace ddp
