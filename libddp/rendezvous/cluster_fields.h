// Ranks and sizes of a ClusterEnv: read, completed, checked. Pure.
#pragma once

#include <ddp/cluster_env.h>

#include "libddp/rendezvous/env_reader.h"

namespace ddp {

inline constexpr int kMostRanks = 1 << 20;

/// Reads what env.launcher says and derives the rest. Throws ConfigError naming what is missing.
void read_fields(const EnvReader& reader, ClusterEnv& env);
/// Throws ConfigError naming the two variables that do not fit together.
void check_fields(const ClusterEnv& env);

}  // namespace ddp
