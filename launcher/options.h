// The command line of ddprun, and the environment variables that stand in for it.
//
//   Options options = parse_options({"ddprun", "--nproc-per-node=2", "train", "--lr", "3"}, environment, usable_cpus);
//   options.program == {"train", "--lr", "3"}
//
// Pure: depends on its arguments and on the CPU count that is passed in.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "launcher/environment.h"

namespace ddp::launcher {

struct Options {
  int nproc_per_node = 1;  ///< workers on this node, >= 1
  int nnodes = 1;          ///< >= 1
  int node_rank = 0;       ///< in [0, nnodes)
  std::string master_addr = "127.0.0.1";
  /// Where the ddpruns of several nodes meet; with one node the workers' MASTER_PORT, 0: a free one.
  std::uint16_t master_port = 0;
  int max_restarts = 0;  ///< >= 0
  std::string run_id;    ///< empty: "none", as torchrun calls it
  std::string role = "default";
  std::string log_dir;  ///< empty: no log files
  std::chrono::milliseconds grace_period{30000};
  std::chrono::milliseconds join_timeout{600000};
  std::chrono::milliseconds heartbeat_timeout{30000};
  bool no_prefix = false;
  bool dry_run = false;
  bool help = false;
  bool version = false;
  std::vector<std::string> program;  ///< program and its arguments, untouched

  [[nodiscard]] int world_size() const { return nnodes * nproc_per_node; }
  [[nodiscard]] int first_rank() const { return node_rank * nproc_per_node; }
};

/// `arguments` includes the name of the program at [0]; `auto_cpus` is asked only for "auto". The command
/// line wins over PET_<NAME>, which wins over PyTorchJob's and Slurm's variables. Throws ConfigError that
/// names the option or variable and shows its value.
[[nodiscard]] Options parse_options(const std::vector<std::string>& arguments, const Environment& environment,
                                    const std::function<int()>& auto_cpus);
/// The text of --help.
[[nodiscard]] std::string help_text();

}  // namespace ddp::launcher
