// Where checkpoints live: named, immutable objects. The commit protocol needs nothing else, so that a file
// system, an object store and a test that fails on purpose can stand behind it.
//
// Keys are like "data/000001-5f/manifest.json": parts of letters, digits, '.', '_' and '-' that do not begin
// with a dot, joined by '/'. Calls may come from any thread. Every call throws StorageError when the storage
// refuses or fails, naming key and reason; then nothing is known about its effect.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ddp::checkpoint {

/// An object's bytes as pieces in different places, written one after the other.
using Pieces = std::span<const std::span<const std::byte>>;

enum class Created {
  kYes,      ///< it is there, durably, and it is ours
  kExists,   ///< somebody had created it before; it is unchanged
  kUnknown,  ///< the answer got lost: read the object back to learn whose it is
};

struct StoredObject {
  std::string key;
  std::uint64_t bytes = 0;
};

class Storage {
 public:
  Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  virtual ~Storage() = default;

  /// Makes the object, whole and durable, unless there is one of that key. Of several callers exactly one gets kYes.
  [[nodiscard]] virtual Created create(std::string_view key, Pieces pieces) = 0;
  /// Makes or replaces the object; a reader sees the old one or the new one.
  virtual void put(std::string_view key, std::string_view bytes) = 0;
  /// Bytes of the object; nullopt when there is none.
  [[nodiscard]] virtual std::optional<std::uint64_t> size(std::string_view key) = 0;
  /// Fills `into` with the object's bytes from `offset` on. Throws CorruptCheckpoint when there is no such
  /// object or it ends before.
  virtual void read(std::string_view key, std::uint64_t offset, std::span<std::byte> into) = 0;
  /// Objects whose key begins with `folder` + "/", in no particular order.
  [[nodiscard]] virtual std::vector<StoredObject> list(std::string_view folder) = 0;
  /// Removes the object if it is there.
  virtual void remove(std::string_view key) = 0;
  /// Removes everything below `folder`, also what interrupted writers left there.
  virtual void remove_all(std::string_view folder) = 0;
  /// Removes what writers that were interrupted long ago left below `folder`.
  /// An empty `folder` means everywhere.
  virtual void remove_unfinished(std::string_view folder) = 0;
  /// What error messages call this storage.
  [[nodiscard]] virtual std::string describe() const = 0;
};

/// create() of one string.
[[nodiscard]] Created create(Storage& storage, std::string_view key, std::string_view text);
/// The whole object; nullopt when there is none. Throws CorruptCheckpoint when it has more than `limit` bytes.
[[nodiscard]] std::optional<std::string> read_all(Storage& storage, std::string_view key,
                                                  std::uint64_t limit);
/// Throws CorruptCheckpoint unless `key` obeys the rule above: keys may come out of files.
void check_key(std::string_view key);

}  // namespace ddp::checkpoint
