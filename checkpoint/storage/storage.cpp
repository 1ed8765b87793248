#include "checkpoint/storage/storage.h"

#include <algorithm>

#include <ddp/error.h>

namespace ddp::checkpoint {
namespace {

bool is_part(std::string_view part) {
  constexpr const char* kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  return !part.empty() && part.size() <= 200 && part.front() != '.' &&
         part.find_first_not_of(kAllowed) == std::string_view::npos;
}

}  // namespace

Created create(Storage& storage, std::string_view key, std::string_view text) {
  const std::span<const std::byte> piece = std::as_bytes(std::span(text));
  return storage.create(key, std::span(&piece, 1));
}

std::optional<std::string> read_all(Storage& storage, std::string_view key, std::uint64_t limit) {
  const auto bytes = storage.size(key);
  if (!bytes) return std::nullopt;
  if (*bytes > limit)
    throw CorruptCheckpoint(std::string(key) + " has " + std::to_string(*bytes) + " bytes, at most " +
                            std::to_string(limit) + " were expected");
  std::string text(*bytes, '\0');
  storage.read(key, 0, std::as_writable_bytes(std::span(text)));
  return text;
}

void check_key(std::string_view key) {
  for (std::string_view rest = key; true;) {
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    if (!is_part(rest.substr(0, slash)))
      throw CorruptCheckpoint("'" + std::string(key.substr(0, 200)) +
                              "' is not a key of a checkpoint storage");
    if (slash == rest.size()) return;
    rest.remove_prefix(slash + 1);
  }
}

}  // namespace ddp::checkpoint
