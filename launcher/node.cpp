#include "launcher/node.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <fstream>
#include <sstream>
#include <vector>

namespace ddp::launcher {
namespace {

std::optional<std::int64_t> integer(std::string_view text) {
  const auto last = text.find_last_not_of(" \t\r\n");
  text = text.substr(0, last == text.npos ? 0 : last + 1);
  std::int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<int> whole_cpus(std::optional<std::int64_t> quota, std::optional<std::int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return std::nullopt;
  return static_cast<int>(std::min<std::int64_t>((*quota - 1) / *period + 1, INT_MAX));
}

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Folders of `controller` ("" is v2) from this process's cgroup up to the root as mounted.
std::vector<std::string> cgroup_folders(const std::string& controller, const std::string& mount) {
  std::vector<std::string> folders;
  std::istringstream lines(read_file("/proc/self/cgroup").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers != "," + controller + "," &&
        (controller.empty() || controllers.find("," + controller + ",") == line.npos))
      continue;
    for (std::string path = line.substr(second + 1); path.size() > 1; path = path.substr(0, path.rfind('/')))
      folders.push_back(mount + path);
  }
  folders.push_back(mount);
  return folders;
}

std::optional<int> quota_cpus() {
  std::optional<int> least;
  const auto take = [&least](std::optional<int> cpus) {
    if (cpus) least = std::min(least.value_or(*cpus), *cpus);
  };
  for (const auto& folder : cgroup_folders("", "/sys/fs/cgroup"))
    take(parse_cpu_max(read_file(folder + "/cpu.max").value_or("")));
  for (const auto& folder : cgroup_folders("cpu", "/sys/fs/cgroup/cpu"))
    take(parse_cfs_quota(read_file(folder + "/cpu.cfs_quota_us").value_or(""),
                         read_file(folder + "/cpu.cfs_period_us").value_or("")));
  return least;
}

/// The mask of a machine with more than 1024 CPUs does not fit cpu_set_t: grow until the kernel is content.
int affinity_cpus() {
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    const bool ok = set != nullptr && ::sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set) == 0;
    const int count = ok ? CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set) : 0;
    CPU_FREE(set);
    if (ok) return count;
  }
  return 1;
}

}  // namespace

std::optional<int> parse_cpu_max(std::string_view text) {
  const auto space = text.find(' ');
  if (space == text.npos) return std::nullopt;
  return whole_cpus(integer(text.substr(0, space)), integer(text.substr(space + 1)));
}

std::optional<int> parse_cfs_quota(std::string_view quota, std::string_view period) {
  return whole_cpus(integer(quota), integer(period));
}

std::optional<std::int64_t> parse_oom_kills(std::string_view text) {
  std::istringstream lines{std::string(text)};
  for (std::string name, value; lines >> name >> value;)
    if (name == "oom_kill") return integer(value);
  return std::nullopt;
}

int usable_cpus() {
  const int affinity = affinity_cpus();
  return std::max(1, std::min(affinity, quota_cpus().value_or(affinity)));
}

std::optional<std::int64_t> oom_kills() {
  for (const auto& folder : cgroup_folders("", "/sys/fs/cgroup"))
    if (auto kills = parse_oom_kills(read_file(folder + "/memory.events").value_or(""))) return kills;
  for (const auto& folder : cgroup_folders("memory", "/sys/fs/cgroup/memory"))
    if (auto kills = parse_oom_kills(read_file(folder + "/memory.oom_control").value_or(""))) return kills;
  return std::nullopt;
}

}  // namespace ddp::launcher
