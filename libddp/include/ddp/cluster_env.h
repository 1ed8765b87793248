// Who am I? The one place that reads the environment of launchers and turns it into ranks, sizes and an endpoint.
//
//   ddp::ClusterEnv env = ddp::ClusterEnv::from_environment();
//   std::cout << env.describe();   // launcher=torchrun rank=3 (RANK) world_size=8 (WORLD_SIZE) ...
//
// Which launcher it was is decided in this order: DDP_LAUNCHER=ddprun; TORCHELASTIC_RUN_ID (torchrun);
// OMPI_COMM_WORLD_* (Open MPI); PMI_* (Hydra, Intel MPI; with srun's PMI: Slurm); PET_* without LOCAL_RANK (a
// pod of a PyTorchJob or a TrainJob, one process each); RANK and WORLD_SIZE (plain); SLURM_PROCID inside a
// step (srun); nothing of that: a single process.
//
// Pure: the result depends on the variables and the ProcessIdentity only; may be called from any thread.
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

/// What the kernel knows of this process: it names the meeting point of ranks that have nothing but a host in common.
struct ProcessIdentity {
  unsigned uid = 0;
  int parent = 0;  ///< process id of the parent
  [[nodiscard]] static ProcessIdentity current();
};

struct ClusterEnv {
  Launcher launcher = Launcher::kSingle;
  int rank = 0;              ///< in [0, world_size)
  int world_size = 1;        ///< processes of the job
  int local_rank = 0;        ///< in [0, local_world_size): which device of this machine
  int local_world_size = 1;  ///< processes on this machine
  int node_rank = 0;         ///< in [0, node_count)
  int node_count = 1;
  /// Host name, IPv4 or IPv6 address (without brackets) of the store; or "unix:@name", an abstract Unix
  /// socket, for ranks of one host under mpirun, srun or PMI when nobody gave MASTER_ADDR.
  std::string master_addr = "127.0.0.1";
  std::uint16_t master_port = 0;  ///< 0: nobody gave one (a single process, or "unix:@name")
  int restart_count = 0;          ///< attempt number given by the launcher, 0 on the first start
  std::string run_id;             ///< job identity given by the launcher; may be empty
  /// torchrun's agent or ddprun already listens on master_port: rank 0 must not.
  bool launcher_hosts_store = false;
  /// Field name -> variable it came from ("RANK"), or "default", or how it was derived
  /// ("PET_NODE_RANK * nproc + LOCAL_RANK").
  std::map<std::string, std::string> sources;

  /// Reads and validates. Throws ConfigError that names the variables and shows their values.
  [[nodiscard]] static ClusterEnv from_environment() { return from(read_environment); }
  [[nodiscard]] static ClusterEnv from(const EnvLookup& lookup,
                                       const ProcessIdentity& process = ProcessIdentity::current());
  /// One line: launcher, every field, and in parentheses where it came from.
  [[nodiscard]] std::string describe() const;
};

}  // namespace ddp
