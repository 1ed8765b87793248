// ddprun itself: attempts until one succeeds, restarts are used up, or somebody says stop.
#pragma once

#include "launcher/environment.h"
#include "launcher/options.h"

namespace ddp::launcher {

/// Runs the job and returns ddprun's exit code. Throws ConfigError (token, address), RendezvousError,
/// TimeoutError (other nodes), Error. Called once, by the main thread, before any other thread exists.
[[nodiscard]] int run_agent(const Options& options, const Environment& environment);

}  // namespace ddp::launcher
