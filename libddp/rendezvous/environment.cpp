// The only file that reads the environment of the process.
#include <unistd.h>

#include <cstdlib>

#include <ddp/cluster_env.h>

namespace ddp {

std::optional<std::string> read_environment(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

ProcessIdentity ProcessIdentity::current() {
  return {::getuid(), ::getppid()};
}

}  // namespace ddp
