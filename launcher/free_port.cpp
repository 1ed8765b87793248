#include "launcher/free_port.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include <ddp/error.h>

#include "libddp/core/fd.h"

namespace ddp::launcher {
namespace {

/// 0 when this machine does not have the family.
std::uint16_t free_port_of(sa_family_t family) {
  const FileDescriptor fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage address{};
  address.ss_family = family;
  socklen_t length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (!fd || ::bind(fd.get(), any, length) != 0 || ::getsockname(fd.get(), any, &length) != 0) return 0;
  return ntohs(family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                  : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

}  // namespace

std::uint16_t free_port() {
  // An IPv6 socket covers both families: what is free for it is free for IPv4.
  if (const auto port = free_port_of(AF_INET6)) return port;
  if (const auto port = free_port_of(AF_INET)) return port;
  throw Error(errno_message("cannot find a free port for MASTER_PORT", errno));
}

}  // namespace ddp::launcher
