// A snapshot of environment variables: what ddprun was given and what a worker will get.
//
//   Environment mine = Environment::from_envp(envp);     // main's third argument
//   Environment worker = mine;  worker.set("RANK", "3");
//   execvpe(program, argv, worker.envp().data());
//
// A value; may be used from any thread like any other value.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ddp::launcher {

class Environment {
 public:
  Environment() = default;
  explicit Environment(std::map<std::string, std::string, std::less<>> values) : values_(std::move(values)) {}
  /// Entries without '=' are dropped.
  [[nodiscard]] static Environment from_envp(const char* const* envp);

  [[nodiscard]] std::optional<std::string> get(std::string_view name) const;
  void set(std::string_view name, std::string_view value) {
    values_.insert_or_assign(std::string(name), value);
  }
  void unset(std::string_view name);
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& values() const { return values_; }
  /// "NAME=value" strings, sorted by name.
  [[nodiscard]] std::vector<std::string> strings() const;

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

}  // namespace ddp::launcher
