#include "libddp/rendezvous/env_reader.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include <ddp/error.h>

namespace ddp {
namespace {

constexpr std::size_t kLongestText = 256;
constexpr std::size_t kLongestShown = 64;

bool is_digits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

int parse(const std::string& name, const std::string& value, int low, int high) {
  const std::string what = shown(name, value);
  if (value.empty()) throw ConfigError(name + " is set but empty: give it a number or unset it");
  if (value.front() == '-' && value.size() > 1 && is_digits(std::string_view(value).substr(1)))
    throw ConfigError(what + " is negative");
  if (!is_digits(value)) throw ConfigError(what + " is not a decimal number");
  int number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || number < low || number > high)
    throw ConfigError(what + " is not in " + std::to_string(low) + ".." + std::to_string(high));
  return number;
}

bool is_address_character(unsigned char c) {
  return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
}

}  // namespace

std::string shown(std::string_view name, std::string_view value) {
  std::string text = std::string(name) + "='";
  for (const unsigned char c : value.substr(0, kLongestShown))
    text += c < ' ' || c == 0x7f ? '?' : static_cast<char>(c);
  if (value.size() <= kLongestShown) return text + "'";
  return text + "...' (" + std::to_string(value.size()) + " characters)";
}

bool is_loopback(std::string_view address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.") ||
         address == "localhost.localdomain" || address == "ip6-localhost";
}

bool EnvReader::has_any(Names names) const {
  return std::any_of(names.begin(), names.end(), [this](const char* name) { return has(name); });
}

std::string EnvReader::show(std::string_view name) const {
  const auto value = raw(name);
  return value ? shown(name, *value) : std::string(name) + " is not set";
}

std::optional<Found<int>> EnvReader::integer(Names names, int low, int high) const {
  for (const char* name : names)
    if (const auto value = raw(name)) return Found<int>{parse(name, *value, low, high), name};
  return std::nullopt;
}

std::optional<Found<std::string>> EnvReader::text(Names names) const {
  for (const char* name : names) {
    auto value = raw(name);
    if (!value) continue;
    if (value->empty())
      throw ConfigError(std::string(name) + " is set but empty: give it a value or unset it");
    if (value->size() > kLongestText)
      throw ConfigError(shown(name, *value) + " is longer than " + std::to_string(kLongestText) +
                        " characters");
    if (std::any_of(value->begin(), value->end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }))
      throw ConfigError(shown(name, *value) + " contains a control character");
    return Found<std::string>{std::move(*value), name};
  }
  return std::nullopt;
}

std::optional<Found<std::string>> EnvReader::address(Names names) const {
  auto found = text(names);
  if (!found) return std::nullopt;
  std::string& value = found->value;
  const std::string what = shown(found->name, value);
  if (value.size() > 2 && value.front() == '[' && value.back() == ']')
    value = value.substr(1, value.size() - 2);
  if (!std::all_of(value.begin(), value.end(), is_address_character))
    throw ConfigError(what + " is not a host name or an address (no scheme, no path, no blanks)");
  if (std::count(value.begin(), value.end(), ':') == 1)
    throw ConfigError(what + " contains a port: it goes into " +
                      (found->name.starts_with("PET_") ? "PET_MASTER_PORT" : "MASTER_PORT"));
  return found;
}

std::optional<bool> EnvReader::flag(const char* name, std::optional<bool> empty_means) const {
  const auto value = raw(name);
  if (!value) return std::nullopt;
  if (value->empty() && empty_means) return empty_means;
  std::string lower = value->substr(0, 8);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "1" || lower == "true") return true;
  if (lower == "0" || lower == "false") return false;
  throw ConfigError(shown(name, *value) + " is not one of 1, true, 0, false");
}

void EnvReader::must_agree(const char* a, const char* b) const {
  const auto left = raw(a), right = raw(b);
  if (left && right && *left != *right)
    throw ConfigError(shown(a, *left) + " contradicts " + shown(b, *right) + ": unset the wrong one");
}

}  // namespace ddp
