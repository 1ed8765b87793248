// Storage in a folder of a file system that all ranks share.
//
// create() is: write a temporary file beside the target; fsync; close, checking its result; link() it to its
// name, which fails if the name is taken; unlink the temporary name; fsync every folder up to the root. On
// NFS the answer of link() may get lost and its repetition say "exists": then two links to the temporary file
// mean that it was ours. Nothing is ever retried after a failed fsync: the pages are gone, the caller must
// write again under a new name.
//
// Files are readable by their owner only (0600 and 0700, less what the umask takes). Symbolic links below the
// root are not followed to files.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>

#include "checkpoint/storage/storage.h"

namespace ddp::checkpoint {

class PosixStorage final : public Storage {
 public:
  /// Nothing is touched before the first write. Interrupted writers' files count as left behind when they
  /// have not been written for `unfinished_age`.
  explicit PosixStorage(std::filesystem::path root,
                        std::chrono::seconds unfinished_age = std::chrono::hours(1));

  [[nodiscard]] Created create(std::string_view key, Pieces pieces) override;
  void put(std::string_view key, std::string_view bytes) override;
  [[nodiscard]] std::optional<std::uint64_t> size(std::string_view key) override;
  void read(std::string_view key, std::uint64_t offset, std::span<std::byte> into) override;
  [[nodiscard]] std::vector<StoredObject> list(std::string_view folder) override;
  void remove(std::string_view key) override;
  void remove_all(std::string_view folder) override;
  void remove_unfinished(std::string_view folder) override;
  [[nodiscard]] std::string describe() const override { return root_.string(); }

 private:
  class TemporaryFile;
  [[nodiscard]] std::filesystem::path path_of(std::string_view key) const;
  void make_folders(const std::filesystem::path& folder);
  void sync_folders(std::filesystem::path folder);

  std::filesystem::path root_;
  std::chrono::seconds unfinished_age_;
};

/// The storage a user names: a path or a file:// URL. Throws ConfigError for anything else.
[[nodiscard]] std::shared_ptr<Storage> open_storage(std::string_view location);

}  // namespace ddp::checkpoint
