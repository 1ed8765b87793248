#include "launcher/descendants.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace ddp::launcher {
namespace {

/// The parent of `pid` from /proc/pid/stat: "pid (name) state ppid"; a name may contain anything, also ") ".
pid_t parent_of(const std::string& pid) {
  std::string stat;
  std::ifstream file("/proc/" + pid + "/stat");
  std::getline(file, stat, '\0');
  const auto name_end = stat.rfind(')');
  if (name_end == std::string::npos) return -1;
  std::istringstream rest(stat.substr(name_end + 1));
  char state = 0;
  pid_t parent = -1;
  rest >> state >> parent;
  return parent;
}

}  // namespace

std::set<pid_t> children() {
  std::set<pid_t> found;
  const pid_t self = ::getpid();
  std::error_code ignored;  // a process may vanish while the folder is read
  // The /proc of another pid namespace would name processes that are none of ours.
  if (std::filesystem::read_symlink("/proc/self", ignored) != std::to_string(self)) return found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos && parent_of(name) == self)
      found.insert(static_cast<pid_t>(std::atoi(name.c_str())));
  }
  return found;
}

}  // namespace ddp::launcher
