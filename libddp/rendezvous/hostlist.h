// Slurm's compressed lists. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ddp {

/// "gpu[003-005,9],cpu1" -> gpu003 gpu004 gpu005 gpu9 cpu1; several brackets a name are allowed. Throws
/// ConfigError on malformed lists and on more than 65536 hosts; `name` is the variable shown.
[[nodiscard]] std::vector<std::string> expand_hostlist(std::string_view name, std::string_view list);

/// "2(x3),1" -> 2 2 2 1. Same errors.
[[nodiscard]] std::vector<int> expand_tasks_per_node(std::string_view name, std::string_view list);

}  // namespace ddp
