// Who am I? The one place that reads the environment of launchers and turns it into ranks, sizes and an
// endpoint.
//
//   ddp::ClusterEnv env = ddp::ClusterEnv::from_environment();
//   std::cout << env.describe();   // launcher=torchrun rank=3 (RANK) world_size=8 (WORLD_SIZE) ...
//
// Pure: reading takes a snapshot of the variables, deciding works on that snapshot; both may be called from
// any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace ddp {

/// What started this process, as far as the environment tells.
enum class Launcher { kSingle, kPlain, kTorchrun, kDdprun, kPyTorchJob, kTrainJob, kOpenMpi, kPmi, kSlurm };
[[nodiscard]] const char* to_string(Launcher launcher) noexcept;

/// Looks a variable up: nullopt when it is not set.
using EnvLookup = std::function<std::optional<std::string>(std::string_view name)>;
/// The process's own environment. The only getenv of the project.
[[nodiscard]] std::optional<std::string> read_environment(std::string_view name);

struct ClusterEnv {
  Launcher launcher = Launcher::kSingle;
  int rank = 0;              ///< in [0, world_size)
  int world_size = 1;        ///< processes of the job
  int local_rank = 0;        ///< in [0, local_world_size): which device of this machine
  int local_world_size = 1;  ///< processes on this machine
  int node_rank = 0;         ///< in [0, node_count)
  int node_count = 1;
  std::string master_addr = "127.0.0.1";  ///< host name, IPv4 or IPv6 address (without brackets) of the store
  std::uint16_t master_port = 0;          ///< 0: nobody gave one (single process, or one host under mpirun)
  int restart_count = 0;                  ///< attempt number given by the launcher, 0 on the first start
  std::string run_id;                     ///< job identity given by the launcher; may be empty
  bool launcher_hosts_store =
      false;  ///< torchrun's agent or ddprun already listens on master_port: rank 0 must not
  /// Field name -> variable it came from ("RANK"), or "default", or how it was derived ("PET_NODE_RANK *
  /// nproc + LOCAL_RANK").
  std::map<std::string, std::string> sources;

  /// Reads and validates. Throws ConfigError that names the variables and shows their values.
  [[nodiscard]] static ClusterEnv from_environment() { return from(read_environment); }
  [[nodiscard]] static ClusterEnv from(const EnvLookup& lookup);
  /// One line: launcher, every field, and in parentheses where it came from.
  [[nodiscard]] std::string describe() const;
};

}  // namespace ddp
