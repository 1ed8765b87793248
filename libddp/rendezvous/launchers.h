// What each launcher tells its processes, as a table of variable names, and how to recognise it. Pure.
#pragma once

#include <string>
#include <vector>

#include <ddp/cluster_env.h>

#include "libddp/rendezvous/env_reader.h"

namespace ddp {

/// The variables that hold each field; the first one that is set wins, none means the launcher does not say.
struct LauncherNames {
  Launcher launcher;
  Names rank, world_size, local_rank, local_world_size, node_rank, node_count;
  Names master_addr, master_port;
  Names restart_count, run_id;
};

[[nodiscard]] Launcher detect_launcher(const EnvReader& reader);
[[nodiscard]] const LauncherNames& names_of(Launcher launcher);
/// Throws ConfigError where a launcher's variables contradict each other or another launcher's.
void check_contradictions(const EnvReader& reader, Launcher launcher);

/// A pod that its job meant for a launcher with several processes, or that has no rank yet, cannot be a rank.
void check_pod(const EnvReader& reader, Launcher launcher);

}  // namespace ddp
