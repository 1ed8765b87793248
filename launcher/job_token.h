// The secret that proves membership in a job, and its way to the workers: a sealed memory file they inherit.
// It is never in an argument list, an environment value or a file system.
#pragma once

#include <string>

#include "launcher/environment.h"
#include "launcher/options.h"
#include "libddp/core/fd.h"

namespace ddp::launcher {

/// The token given by DDP_JOB_TOKEN or DDP_JOB_TOKEN_FILE, or a random one on a single node. Empty only when several
/// nodes run with DDP_ALLOW_INSECURE=1; without that such a job is a ConfigError that says what to do.
[[nodiscard]] std::string job_token(const Options& options, const Environment& environment);

/// A memory file that holds `token`, can be read only and no longer be changed. Close-on-exec.
[[nodiscard]] FileDescriptor sealed_token(const std::string& token);

}  // namespace ddp::launcher
