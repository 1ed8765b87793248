// 1. Recognise the launcher.
// 2. Read its variables.
// 3. Derive what it does not say.
// 4. Find the store's address.
// 5. Check that everything fits together.
#include <ddp/cluster_env.h>

#include <algorithm>

#include <ddp/error.h>

#include "libddp/rendezvous/cluster_fields.h"
#include "libddp/rendezvous/endpoint_rules.h"
#include "libddp/rendezvous/launchers.h"

namespace ddp {

const char* to_string(Launcher launcher) noexcept {
  switch (launcher) {
    case Launcher::kPlain:
      return "plain";
    case Launcher::kTorchrun:
      return "torchrun";
    case Launcher::kDdprun:
      return "ddprun";
    case Launcher::kPyTorchJob:
      return "pytorchjob";
    case Launcher::kTrainJob:
      return "trainjob";
    case Launcher::kOpenMpi:
      return "openmpi";
    case Launcher::kPmi:
      return "pmi";
    case Launcher::kSlurm:
      return "slurm";
    case Launcher::kSingle:
      break;
  }
  return "single";
}

ClusterEnv ClusterEnv::from(const EnvLookup& lookup, const ProcessIdentity& process) {
  const EnvReader reader(lookup);
  ClusterEnv env;
  env.launcher = detect_launcher(reader);
  if (env.launcher == Launcher::kSingle) {
    for (const char* field : {"rank", "world_size", "local_rank", "local_world_size", "node_rank",
                              "node_count", "master_addr", "master_port"})
      env.sources[field] = "default";
    return env;
  }
  check_pod(reader, env.launcher);
  check_contradictions(reader, env.launcher);
  read_fields(reader, env);
  read_endpoint(reader, process, env);
  check_fields(env);
  return env;
}

std::string ClusterEnv::describe() const {
  std::string line = std::string("launcher=") + to_string(launcher);
  const auto add = [&](const char* field, const std::string& value) {
    line.append(" ").append(field).append("=").append(value);
    const auto source = sources.find(field);
    if (source != sources.end()) line.append(" (").append(source->second).append(")");
  };
  add("rank", std::to_string(rank));
  add("world_size", std::to_string(world_size));
  add("local_rank", std::to_string(local_rank));
  add("local_world_size", std::to_string(local_world_size));
  add("node_rank", std::to_string(node_rank));
  add("node_count", std::to_string(node_count));
  add("master_addr", master_addr);
  add("master_port", std::to_string(master_port));
  add("restart_count", std::to_string(restart_count));
  add("run_id", run_id.empty() ? "none" : run_id);
  add("launcher_hosts_store", launcher_hosts_store ? "yes" : "no");
  return line;
}

}  // namespace ddp
