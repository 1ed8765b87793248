// Reaching the store's server: resolve, connect, prove, and again until the deadline.
#pragma once

#include <memory>
#include <string>

#include <ddp/rendezvous.h>

#include "libddp/rendezvous/store_connection.h"

namespace ddp {

/// A connected, proven and, where it can be, encrypted connection. Names are resolved anew for every attempt (a pod's name
/// appears in DNS when the pod does) and every address tried, IPv6 and IPv4. Throws TimeoutError with the
/// reason of the last attempt, ConfigError when trying again cannot help: another token, another service.
[[nodiscard]] std::unique_ptr<StoreConnection> connect_to_store(const StoreEndpoint& endpoint,
                                                                const std::string& token, Deadline deadline);

/// No delay, and keep-alive that notices within half a minute that the other machine is gone.
void set_tcp_options(int socket);

/// Whether the other end of a Unix socket is of this user or root. Somebody of another user is not of this
/// job, whatever he knows of it, and an abstract name can be taken by anybody on the machine.
[[nodiscard]] bool same_user(int socket);

/// The local address from which this machine reaches `host`; empty when it cannot be told.
[[nodiscard]] std::string local_address_towards(const std::string& host);

}  // namespace ddp
