// Reaching the store's server: resolve, connect, prove, and again until the deadline.
#pragma once

#include <string>

#include <ddp/rendezvous.h>

#include "libddp/core/fd.h"

namespace ddp {

/// A connected and authenticated stream socket. Names are resolved anew for every attempt (a pod's name
/// appears in DNS when the pod does) and every address tried, IPv6 and IPv4. Throws TimeoutError with the
/// reason of the last attempt, ConfigError when trying again cannot help (another token, another service).
[[nodiscard]] FileDescriptor connect_to_store(const StoreEndpoint& endpoint, const std::string& token,
                                              Deadline deadline);

/// The local address from which this machine reaches `host`; empty when it cannot be told.
[[nodiscard]] std::string local_address_towards(const std::string& host);

}  // namespace ddp
