#include "libddp/rendezvous/connect.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <thread>

#include <ddp/error.h>
#include <ddp/log.h>

#include "libddp/rendezvous/authenticate.h"
#include "libddp/rendezvous/store_wire.h"

namespace ddp {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Of one attempt at one address: a machine that swallows packets must not use up the whole deadline.
constexpr seconds kAttempt{10};
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

FileDescriptor attempt(const StoreEndpoint& endpoint, const Address& address, const std::string& token,
                       Deadline deadline) {
  FileDescriptor fd = connect_to(address, Deadline::in(kAttempt).min(deadline));
  if (address.storage.ss_family != AF_UNIX) {
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    const int idle = 15, interval = 5, probes = 3;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
  }
  try {
    run_client_handshake(fd.get(), {token, store_wire::kPurpose, false},
                         Deadline::in(kAttempt).min(deadline));
  } catch (const ConfigError& error) {  // trying again cannot help
    throw ConfigError("store at " + endpoint.describe() + ": " + error.what());
  } catch (const RendezvousError& error) {  // nor here: another token, another service
    throw ConfigError("store at " + endpoint.describe() + ": " + error.what());
  }
  return fd;
}

}  // namespace

FileDescriptor connect_to_store(const StoreEndpoint& endpoint, const std::string& token, Deadline deadline) {
  std::string last = "not tried";
  milliseconds pause = kFirstPause;
  for (;;) {
    try {
      for (const Address& address : addresses_of(endpoint)) {
        try {
          return attempt(endpoint, address, token, deadline);
        } catch (const PeerFailure& error) {
          last = error.what();
        } catch (const TimeoutError& error) {
          last = error.what();
        }
      }
    } catch (const ConfigError&) {
      throw;
    } catch (const RendezvousError& error) {
      last = error.what();
    }
    if (deadline.remaining() <= pause)
      throw TimeoutError("cannot reach the store at " + endpoint.describe() + " within " +
                         to_string(deadline.timeout()) + ": " + last +
                         "; does rank 0 run, and do MASTER_ADDR and MASTER_PORT name its machine?");
    std::this_thread::sleep_for(pause);
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
