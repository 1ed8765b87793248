// The environment of a worker: torchrun's contract, plus DDP_* for programs that know ddprun.
//
// Pure; may be called from any thread.
#pragma once

#include <string>

#include "launcher/environment.h"
#include "launcher/options.h"

namespace ddp::launcher {

struct Attempt {
  int number = 0;                 ///< 0 on the first start
  std::uint16_t master_port = 0;  ///< where rank 0 may listen in this attempt: PyTorch's store
  std::string store_addr;         ///< ddprun's own store, for libddp
  std::uint16_t store_port = 0;
  std::string token_file;  ///< path that reads as the job token; empty: there is none
};

/// Where the log files of a worker are, below --log-dir.
[[nodiscard]] std::string worker_folder(const Options& options, int attempt, int rank);

/// What worker `local_rank` gets on top of (and instead of) `inherited`. The job token itself is never in it.
[[nodiscard]] Environment worker_environment(const Environment& inherited, const Options& options,
                                             const Attempt& attempt, int local_rank);

}  // namespace ddp::launcher
