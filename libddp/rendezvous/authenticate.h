// The handshake over a descriptor, with all its terms and its result: what authenticate_client() and
// authenticate_server() of auth.h are made of. Same rules as there.
#pragma once

#include <ddp/deadline.h>

#include "libddp/rendezvous/handshake.h"

namespace ddp {

/// Return the connection's session key.
Digest run_client_handshake(int fd, const handshake::Terms& terms, Deadline deadline);
Digest run_server_handshake(int fd, const handshake::Terms& terms, Deadline deadline);

}  // namespace ddp
