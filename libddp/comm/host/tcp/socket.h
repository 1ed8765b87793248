// TCP sockets: addresses, listening, connecting, options. Non-blocking and close-on-exec throughout.
//
// Functions may be called from any thread.
#pragma once

#include <cstdint>
#include <string>

#include <ddp/deadline.h>

#include "libddp/core/fd.h"

namespace ddp::host {

struct Endpoint {
  std::string address;  ///< numeric IPv4 or IPv6
  std::uint16_t port = 0;
};
/// "10.0.0.7:4100", "[fd00::7]:4100".
[[nodiscard]] std::string describe(const Endpoint& endpoint);

struct Listener {
  FileDescriptor fd;
  Endpoint endpoint;
};
/// Listens on a free port of `address`, numeric or a name; empty: 127.0.0.1. Throws ConfigError when the
/// address is not one of this machine or is a wildcard.
[[nodiscard]] Listener listen_on(const std::string& address);

/// Connects; `what` opens the messages. Throws RendezvousError (refused, unreachable) or TimeoutError.
[[nodiscard]] FileDescriptor connect_to(const Endpoint& endpoint, Deadline deadline, const std::string& what);

/// For connections that carry frames: a host that no longer answers is noticed within 20 s, even while nothing is sent.
void tune_control(int fd);
/// For connections that carry bulk data. They have no timeout of their own: a peer that is alive but does not
/// read is not dead, and only the operation's deadline judges it.
void tune_data(int fd);

}  // namespace ddp::host
