// A TCP port for the workers' MASTER_PORT. Any thread.
#pragma once

#include <cstdint>

namespace ddp::launcher {

/// A port that nobody listens on now. Somebody else may take it before rank 0 does; then the attempt fails
/// and the next gets another. Throws Error when the system has none.
[[nodiscard]] std::uint16_t free_port();

}  // namespace ddp::launcher
