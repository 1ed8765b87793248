#include "launcher/environment.h"

namespace ddp::launcher {

Environment Environment::from_envp(const char* const* envp) {
  Environment environment;
  for (; *envp != nullptr; ++envp) {
    const std::string_view entry = *envp;
    const auto equals = entry.find('=');
    if (equals == std::string_view::npos || equals == 0) continue;
    environment.set(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return environment;
}

std::optional<std::string> Environment::get(std::string_view name) const {
  const auto it = values_.find(name);
  if (it == values_.end()) return std::nullopt;
  return it->second;
}

void Environment::unset(std::string_view name) {
  const auto it = values_.find(name);
  if (it != values_.end()) values_.erase(it);
}

std::vector<std::string> Environment::strings() const {
  std::vector<std::string> strings;
  strings.reserve(values_.size());
  for (const auto& [name, value] : values_) strings.push_back(name + "=" + value);
  return strings;
}

}  // namespace ddp::launcher
