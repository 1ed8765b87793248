// Environments as tables: what is set, and what must come out or be complained about.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <ddp/cluster_env.h>

namespace ddp::testing {

using Vars = std::map<std::string, std::string>;

inline EnvLookup lookup_in(Vars vars) {
  return [vars = std::move(vars)](std::string_view name) -> std::optional<std::string> {
    const auto it = vars.find(std::string(name));
    if (it == vars.end()) return std::nullopt;
    return it->second;
  };
}

/// `base` with `changes` on top; a value of kUnset takes the variable away.
inline const std::string kUnset = "\x01unset";
inline Vars with(Vars base, const Vars& changes) {
  for (const auto& [name, value] : changes) {
    base.erase(name);
    if (value != kUnset) base[name] = value;
  }
  return base;
}

/// An environment that is understood: launcher rank/world local/local_world node/nodes address:port.
struct GoodRow {
  std::string name;
  Vars vars;
  std::string expected;
};

/// One that is not: every piece of `complaints` must be in the message.
struct BadRow {
  std::string name;
  Vars vars;
  std::vector<std::string> complaints;
};

template <class Row>
std::string row_name(const ::testing::TestParamInfo<Row>& info) {
  std::string name;
  for (const char c : info.param.name) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

}  // namespace ddp::testing
