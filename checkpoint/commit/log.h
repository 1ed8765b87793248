// The create-once commit log: who may write checkpoints, and which ones exist. Steps 1, 4, 5 and 6 of
// docs/checkpoint-protocol.md.
//
// log/000000000001, log/000000000002, ... are created, never changed, never removed. Each is {open}: "from here on
// epoch E with nonce N leads", or {commit}: "checkpoint S of epoch E is complete". Whoever leads writes into the slot
// after the last one it knows; finding that slot taken by another nonce, it knows that it leads no more.
//
// Rank 0 only; one thread.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/storage/storage.h"

namespace ddp::checkpoint {

struct LogEntry {
  enum class Kind { kOpen, kCommit };
  Kind kind = Kind::kOpen;
  std::uint64_t slot = 0;  ///< from 1; part of the key, and repeated inside
  std::uint64_t epoch = 0;
  std::string nonce;
  // Of a commit:
  std::int64_t step = 0;
  std::string folder;           ///< "data/000002-91c0.../0000000200.1"
  std::string manifest_sha256;  ///< of folder + "/manifest.json"
  bool operator==(const LogEntry&) const = default;
};

[[nodiscard]] std::string to_text(const LogEntry& entry);
/// Throws CorruptCheckpoint unless `text` is an entry whose checksum fits and that belongs into `slot`.
[[nodiscard]] LogEntry parse_log_entry(std::string_view text, std::uint64_t slot);
[[nodiscard]] std::string log_key(std::uint64_t slot);
[[nodiscard]] std::string tombstone_key(std::uint64_t slot);

/// What the log said when it was read.
struct LogView {
  std::vector<LogEntry> commits;  ///< that have no tombstone, oldest first
  std::uint64_t last_slot = 0;    ///< 0: the log is empty
  std::uint64_t next_epoch = 1;   ///< above every epoch that is or may have been there
  std::size_t unreadable = 0;     ///< entries that were skipped with a warning
  std::size_t buried = 0;         ///< entries with a tombstone
  /// Checkpoints that should be there and are not. Retention never buries the newest one.
  [[nodiscard]] std::size_t lost() const { return unreadable + (commits.empty() ? buried : 0); }
};
[[nodiscard]] LogView read_log(Storage& storage);

class CommitLog {
 public:
  /// Becomes the leader: takes the next free slot, however many others try at the same time.
  explicit CommitLog(Storage& storage);

  [[nodiscard]] std::uint64_t epoch() const { return epoch_; }
  [[nodiscard]] const std::string& nonce() const { return nonce_; }
  /// Commits without a tombstone, oldest first, this leader's own included.
  [[nodiscard]] const std::vector<LogEntry>& commits() const { return commits_; }

  /// LogView::lost() as it was when this leader began.
  [[nodiscard]] std::size_t lost() const { return lost_; }
  /// Remembers that a commit did not verify: retention does not count it.
  void distrust(std::uint64_t slot) { distrusted_.insert(slot); }
  [[nodiscard]] bool is_distrusted(std::uint64_t slot) const { return distrusted_.contains(slot); }

  /// Throws FencedOut when somebody else leads already: before gigabytes are written for nothing.
  void check_fence();
  /// Appends a commit. Throws FencedOut when another leader took the slot; StorageError when storage failed,
  /// and then the entry may be there or not.
  void commit(std::int64_t step, const std::string& folder, const std::string& manifest_sha256);
  /// Marks commits as about to be removed, durably, and forgets them.
  void bury(const std::set<std::uint64_t>& slots);

 private:
  enum class Slot { kOurs, kOurEarlier, kTheirs };
  [[nodiscard]] Slot take(LogEntry& entry);
  [[nodiscard]] Slot inspect(const LogEntry& entry);
  [[noreturn]] void fenced_out(std::uint64_t slot);

  Storage& storage_;
  std::uint64_t epoch_ = 0;
  std::string nonce_;
  std::uint64_t last_slot_ = 0;
  std::vector<LogEntry> commits_;
  std::size_t lost_ = 0;
  std::set<std::uint64_t> distrusted_;
};

}  // namespace ddp::checkpoint
