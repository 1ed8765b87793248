// What this node has: usable CPUs, memory kills of its cgroup.
//
// Parsers are pure; the two functions that read the system may be called from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ddp::launcher {

/// cgroup v2 cpu.max ("150000 100000", "max 100000") as whole CPUs, rounded up; nullopt: no limit or not readable.
[[nodiscard]] std::optional<int> parse_cpu_max(std::string_view text);
/// cgroup v1 cpu.cfs_quota_us and cpu.cfs_period_us; a quota of -1 is no limit.
[[nodiscard]] std::optional<int> parse_cfs_quota(std::string_view quota, std::string_view period);
/// The counter "oom_kill" of memory.events (v2) or memory.oom_control (v1); nullopt if it is not there.
[[nodiscard]] std::optional<std::int64_t> parse_oom_kills(std::string_view text);

/// min(cgroup quota of this process or any of its parents, CPUs of its affinity mask), at least 1.
[[nodiscard]] int usable_cpus();
/// How many processes of this cgroup the kernel has killed for memory; nullopt where it does not tell.
[[nodiscard]] std::optional<std::int64_t> oom_kills();

}  // namespace ddp::launcher
