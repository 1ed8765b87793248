// Passing descriptors and small messages over a connected Unix stream socket, with deadlines.
#pragma once

#include <cstdint>
#include <string>

#include <ddp/deadline.h>

#include "libddp/core/fd.h"

namespace ddp::host {

/// Listens on an abstract name (no file is made; gone with the descriptor). Throws Error.
[[nodiscard]] FileDescriptor listen_abstract(const std::string& name);
/// Throws TimeoutError saying `what`.
[[nodiscard]] FileDescriptor accept_until(const FileDescriptor& listener, Deadline deadline,
                                          const std::string& what);
/// Throws RendezvousError when nobody listens.
[[nodiscard]] FileDescriptor connect_abstract(const std::string& name);

/// One number, and a descriptor if `fd` is not negative. Throws PeerFailure when the peer is gone.
void send_message(const FileDescriptor& socket, std::uint64_t number, int fd = -1);

struct Received {
  std::uint64_t number = 0;
  FileDescriptor fd;
};
/// Throws PeerFailure when the peer is gone, TimeoutError saying `what`.
[[nodiscard]] Received receive_message(const FileDescriptor& socket, Deadline deadline,
                                       const std::string& what);

}  // namespace ddp::host
