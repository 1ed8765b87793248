#include "libddp/rendezvous/cluster_fields.h"

#include <algorithm>

#include <ddp/error.h>

#include "libddp/rendezvous/hostlist.h"
#include "libddp/rendezvous/launchers.h"

namespace ddp {
namespace {

/// "RANK=5", or "rank=5 (derived from ...)".
std::string said(const ClusterEnv& env, const std::string& field, int value) {
  const auto it = env.sources.find(field);
  const std::string source = it == env.sources.end() ? "default" : it->second;
  if (source.find(' ') == std::string::npos && source != "default")
    return source + "=" + std::to_string(value);
  return field + "=" + std::to_string(value) + " (" + source + ")";
}

/// Which placement fields are known so far, and how the others are found.
class Placement {
 public:
  Placement(const EnvReader& reader, ClusterEnv& env) : reader_(reader), env_(env) {}

  void read(const LauncherNames& names) {
    local_rank_ = take(names.local_rank, 0, "local_rank", env_.local_rank);
    local_size_ = take(names.local_world_size, 1, "local_world_size", env_.local_world_size);
    node_rank_ = take(names.node_rank, 0, "node_rank", env_.node_rank);
    node_count_ = take(names.node_count, 1, "node_count", env_.node_count);
  }

  /// Slurm: tasks of each node from a list, nodes from their list.
  void read_slurm_lists() {
    const char* tasks_name =
        reader_.has("SLURM_STEP_TASKS_PER_NODE") ? "SLURM_STEP_TASKS_PER_NODE" : "SLURM_TASKS_PER_NODE";
    if (!node_count_)
      if (const auto list = reader_.raw("SLURM_STEP_NODELIST"); list && !list->empty())
        node_count_ = derive("node_count", env_.node_count, "SLURM_STEP_NODELIST",
                             static_cast<int>(expand_hostlist("SLURM_STEP_NODELIST", *list).size()));
    const auto list = reader_.raw(tasks_name);
    if (!list || list->empty() || !node_rank_) return;
    const auto tasks = expand_tasks_per_node(tasks_name, *list);
    if (static_cast<std::size_t>(env_.node_rank) >= tasks.size())
      throw ConfigError(said(env_, "node_rank", env_.node_rank) + " is beyond " + shown(tasks_name, *list));
    local_size_ = derive("local_world_size", env_.local_world_size, std::string(tasks_name) + " of this node",
                         tasks[static_cast<std::size_t>(env_.node_rank)]);
  }

  void complete(bool one_host) {
    if (env_.world_size == 1)
      whole_job_here("one process");
    else if (node_count_ && env_.node_count == 1)
      whole_job_here("one node");
    else if (one_host && !local_size_ && !node_count_)
      whole_job_here("one host");
    else if (!local_rank_ && !local_size_)
      one_process_each();
    complete_local();
    complete_nodes();
  }

 private:
  bool take(Names names, int low, const char* field, int& value) {
    const auto found = reader_.integer(names, low, kMostRanks);
    if (!found) return false;
    value = found->value;
    env_.sources[field] = found->name;
    return true;
  }

  bool derive(const char* field, int& value, const std::string& source, int derived) {
    value = derived;
    env_.sources[field] = source;
    return true;
  }

  void whole_job_here(const std::string& why) {
    if (!local_rank_) local_rank_ = derive("local_rank", env_.local_rank, "rank, " + why, env_.rank);
    if (!local_size_)
      local_size_ = derive("local_world_size", env_.local_world_size, "world_size, " + why, env_.world_size);
    if (!node_rank_) node_rank_ = derive("node_rank", env_.node_rank, why, 0);
    if (!node_count_) node_count_ = derive("node_count", env_.node_count, why, 1);
  }

  void one_process_each() {
    const std::string why = "one process a node";
    if (node_count_ && env_.node_count != env_.world_size) return;
    local_rank_ = derive("local_rank", env_.local_rank, why, 0);
    local_size_ = derive("local_world_size", env_.local_world_size, why, 1);
    if (!node_rank_) node_rank_ = derive("node_rank", env_.node_rank, "rank, " + why, env_.rank);
    if (!node_count_)
      node_count_ = derive("node_count", env_.node_count, "world_size, " + why, env_.world_size);
  }

  void complete_local() {
    if (!local_size_ && node_count_ && env_.world_size % env_.node_count == 0)
      local_size_ = derive("local_world_size", env_.local_world_size, "world_size / node_count",
                           env_.world_size / env_.node_count);
    if (!local_rank_ && local_size_ &&
        (env_.local_world_size == 1 || env_.local_world_size == env_.world_size))
      local_rank_ = derive("local_rank", env_.local_rank, "rank and local_world_size",
                           env_.rank % env_.local_world_size);
    if (!local_size_)
      missing("how many processes run on this node", env_.launcher == Launcher::kSlurm
                                                         ? Names{"SLURM_STEP_TASKS_PER_NODE"}
                                                         : names_of(env_.launcher).local_world_size);
    if (!local_rank_) missing("which process of this node this is", names_of(env_.launcher).local_rank);
  }

  void complete_nodes() {
    if (node_rank_ && node_count_) return;
    const int local = env_.local_world_size;
    const bool regular = env_.world_size % local == 0 && env_.rank % local == env_.local_rank;
    const bool mpi = env_.launcher == Launcher::kOpenMpi || env_.launcher == Launcher::kPmi;
    // MPI launchers do not tell nodes apart: the numbers below are right for equally filled nodes.
    if (!regular && !mpi && env_.rank < env_.world_size && env_.local_rank < local)
      throw ConfigError(said(env_, "local_rank", env_.local_rank) + " and " +
                        said(env_, "local_world_size", local) + " do not tell the node of " +
                        said(env_, "rank", env_.rank) + " of " + std::to_string(env_.world_size) +
                        " (nodes are not filled equally and in order): set GROUP_RANK and GROUP_WORLD_SIZE");
    if (!node_count_)
      node_count_ = derive("node_count", env_.node_count, "world_size / local_world_size",
                           std::max(1, (env_.world_size + local - 1) / local));
    if (!node_rank_)
      node_rank_ = derive("node_rank", env_.node_rank, "rank / local_world_size",
                          std::min(env_.rank / local, env_.node_count - 1));
  }

  [[noreturn]] static void missing(const std::string& what, Names names) {
    throw ConfigError(std::string(*names.begin()) + " is not set: it tells " + what);
  }

  const EnvReader& reader_;
  ClusterEnv& env_;
  bool local_rank_ = false, local_size_ = false, node_rank_ = false, node_count_ = false;
};

void require(const EnvReader& reader, Names names, int low, const char* field, ClusterEnv& env, int& value) {
  const auto found = reader.integer(names, low, low == 0 ? kMostRanks - 1 : kMostRanks);
  if (!found)
    throw ConfigError(std::string(*names.begin()) + " is not set, but other variables of launcher '" +
                      to_string(env.launcher) + "' are: set it, or unset the others for a single process");
  value = found->value;
  env.sources[field] = found->name;
}

void require_below(const ClusterEnv& env, const char* low, int low_value, const char* high, int high_value) {
  if (low_value >= high_value)
    throw ConfigError(said(env, low, low_value) + " is not below " + said(env, high, high_value));
}

void require_at_most(const ClusterEnv& env, const char* low, int low_value, const char* high,
                     int high_value) {
  if (low_value > high_value)
    throw ConfigError(said(env, low, low_value) + " is more than " + said(env, high, high_value));
}

}  // namespace

void read_fields(const EnvReader& reader, ClusterEnv& env) {
  const LauncherNames& names = names_of(env.launcher);
  require(reader, names.rank, 0, "rank", env, env.rank);
  require(reader, names.world_size, 1, "world_size", env, env.world_size);
  require_below(env, "rank", env.rank, "world_size", env.world_size);
  Placement placement(reader, env);
  placement.read(names);
  if (env.launcher == Launcher::kSlurm) placement.read_slurm_lists();
  const auto master = reader.raw("MASTER_ADDR");
  const bool pod = env.launcher == Launcher::kPyTorchJob || env.launcher == Launcher::kTrainJob;
  const bool mpi = env.launcher == Launcher::kPmi || env.launcher == Launcher::kOpenMpi;
  placement.complete(!pod && (master ? is_loopback(*master) : mpi));
  if (const auto count = reader.integer(names.restart_count, 0, 1 << 30)) {
    env.restart_count = count->value;
    env.sources["restart_count"] = count->name;
  }
  if (auto id = reader.text(names.run_id)) {
    env.run_id = std::move(id->value);
    env.sources["run_id"] = id->name;
  }
}

void check_fields(const ClusterEnv& env) {
  require_below(env, "local_rank", env.local_rank, "local_world_size", env.local_world_size);
  require_at_most(env, "local_world_size", env.local_world_size, "world_size", env.world_size);
  require_below(env, "node_rank", env.node_rank, "node_count", env.node_count);
  require_at_most(env, "node_count", env.node_count, "world_size", env.world_size);
  const int elsewhere = env.world_size - env.local_world_size;
  // Every other node has at least one process; with no other node nothing may be left over.
  if (elsewhere < env.node_count - 1 || (env.node_count == 1 && elsewhere != 0))
    throw ConfigError(said(env, "local_world_size", env.local_world_size) + " contradicts " +
                      said(env, "world_size", env.world_size) + " and " +
                      said(env, "node_count", env.node_count));
}

}  // namespace ddp
