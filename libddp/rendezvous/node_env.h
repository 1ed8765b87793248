// Who is this node? What a launcher that runs once per node (ddprun in a pod, under srun) reads from its
// environment; ClusterEnv is the same question asked by a rank. Pure; any thread.
//
//   ddp::NodeEnv node = ddp::NodeEnv::from(ddp::read_environment);
//   if (node.nproc_per_node == "auto") ...
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <ddp/cluster_env.h>

namespace ddp {

struct NodeEnv {
  int node_rank = 0;  ///< in [0, node_count)
  int node_count = 1;
  std::string nproc_per_node;     ///< as given: "4", "auto", "cpu", "gpu"; empty: nobody said
  std::string master_addr;        ///< empty: nobody said
  std::uint16_t master_port = 0;  ///< 0: nobody said
  bool standalone = false;  ///< PET_STANDALONE, also when present and empty: one node, whatever else is set
  std::string run_id;       ///< may be empty
  /// Field name -> variable it came from; fields nobody set are missing.
  std::map<std::string, std::string> sources;

  /// PET_* first, then PyTorchJob's RANK (a pod index where PET_NPROC_PER_NODE is set) and MASTER_*, then
  /// Slurm. Throws ConfigError that names the variables and shows their values.
  [[nodiscard]] static NodeEnv from(const EnvLookup& lookup);
};

}  // namespace ddp
