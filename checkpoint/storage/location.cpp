#include <charconv>

#include <ddp/error.h>

#include "checkpoint/storage/posix.h"

namespace ddp::checkpoint {
namespace {

[[noreturn]] void refuse(std::string_view location, const std::string& why) {
  throw ConfigError("checkpoint location '" + std::string(location) + "': " + why +
                    "; supported are a folder, as a path (runs/demo) or as a URL (file:///shared/runs/demo)");
}

/// "%20" -> " ". A malformed escape or a zero byte is a ConfigError.
std::string percent_decoded(std::string_view text, std::string_view location) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    unsigned value = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != 2 || error != std::errc() || end != digits.data() + 2 || value == 0)
      refuse(location, "'" + std::string(text.substr(i, 3)) + "' is not an escape");
    decoded += static_cast<char>(value);
    i += 2;
  }
  return decoded;
}

}  // namespace

std::shared_ptr<Storage> open_storage(std::string_view location) {
  if (location.empty()) refuse(location, "it is empty");
  if (location.find('\0') != std::string_view::npos) refuse(location, "it contains a zero byte");
  const std::size_t scheme = location.find("://");
  if (scheme == std::string_view::npos)
    return std::make_shared<PosixStorage>(std::filesystem::path(location));
  if (location.substr(0, scheme) != "file")
    refuse(location,
           "'" + std::string(location.substr(0, scheme)) + "://' is not built into this version of libddp");
  std::string_view path = location.substr(scheme + 3);
  if (path.starts_with("localhost/")) path.remove_prefix(std::string_view("localhost").size());
  if (!path.starts_with('/')) refuse(location, "a file URL names an absolute path on this host, file:///...");
  return std::make_shared<PosixStorage>(std::filesystem::path(percent_decoded(path, location)));
}

}  // namespace ddp::checkpoint
