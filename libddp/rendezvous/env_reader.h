// Reads and checks single variables; every complaint is a ConfigError that names the variable and shows its
// value, shortened. Belongs to one thread.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include <ddp/cluster_env.h>

namespace ddp {

/// A value and the variable it came from.
template <class T>
struct Found {
  T value;
  std::string name;
};

using Names = std::initializer_list<const char*>;

/// NAME='value', with the value cut at 64 characters and control characters replaced.
[[nodiscard]] std::string shown(std::string_view name, std::string_view value);
/// "127.0.0.1", "::1", "localhost" and their kin.
[[nodiscard]] bool is_loopback(std::string_view address);

class EnvReader {
 public:
  explicit EnvReader(const EnvLookup& lookup) : lookup_(&lookup) {}

  [[nodiscard]] std::optional<std::string> raw(std::string_view name) const { return (*lookup_)(name); }
  [[nodiscard]] bool has(std::string_view name) const { return raw(name).has_value(); }
  [[nodiscard]] bool has_any(Names names) const;
  /// NAME='value' as it stands in the environment, or "NAME is not set".
  [[nodiscard]] std::string show(std::string_view name) const;

  /// The first of `names` that is set, as a decimal number in [low, high].
  [[nodiscard]] std::optional<Found<int>> integer(Names names, int low, int high) const;
  /// The first that is set, not empty, at most 256 printable characters.
  [[nodiscard]] std::optional<Found<std::string>> text(Names names) const;
  /// A host name or address; brackets around an IPv6 address are taken off.
  [[nodiscard]] std::optional<Found<std::string>> address(Names names) const;
  [[nodiscard]] std::optional<Found<int>> port(Names names) const { return integer(names, 1, 65535); }
  /// 1, true, 0, false in any case; `empty_means` for "".
  [[nodiscard]] std::optional<bool> flag(const char* name, std::optional<bool> empty_means = {}) const;

  /// If both are set they must say the same.
  void must_agree(const char* a, const char* b) const;

 private:
  const EnvLookup* lookup_;
};

}  // namespace ddp
