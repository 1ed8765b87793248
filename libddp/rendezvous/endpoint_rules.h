// Where the store of a job is, according to its environment. Pure.
#pragma once

#include <ddp/cluster_env.h>

#include "libddp/rendezvous/env_reader.h"

namespace ddp {

/// Fills master_addr, master_port, run_id where the launcher names its job, and launcher_hosts_store. Needs
/// the ranks and sizes of `env`. Throws ConfigError that says how to give what is missing.
void read_endpoint(const EnvReader& reader, const ProcessIdentity& process, ClusterEnv& env);

}  // namespace ddp
