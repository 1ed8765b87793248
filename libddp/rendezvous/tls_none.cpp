// A build without TLS. Connections that would be encrypted say so in their handshake, so a peer that can and
// one that cannot part with an error that names DDP_TLS before anything of this is asked for.
#include <ddp/error.h>

#include "libddp/rendezvous/tls.h"

namespace ddp::tls {

bool available() {
  return false;
}

std::unique_ptr<Context> make_context(Role) {
  throw ConfigError("this libddp was built without TLS: build it with DDP_TLS=ON");
}

}  // namespace ddp::tls
