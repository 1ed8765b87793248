// Finding and ending every process below ddprun, also those that moved to a session of their own.
//
// Works because ddprun is a subreaper: a process whose parent dies becomes ddprun's child. One thread.
#pragma once

#include <sys/types.h>

#include <set>

namespace ddp::launcher {

/// Children of this process, zombies included; none where /proc is not mounted or belongs to another pid namespace.
[[nodiscard]] std::set<pid_t> children();

}  // namespace ddp::launcher
