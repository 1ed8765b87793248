#include "checkpoint/commit/retention.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include <ddp/error.h>
#include <ddp/log.h>

#include "checkpoint/commit/checkpoint_files.h"

namespace ddp::checkpoint {
namespace {

bool is_complete(Storage& storage, const LogEntry& commit) {
  try {
    const Manifest manifest = read_manifest(storage, commit);
    for (const auto& file : manifest.files)
      if (storage.size(commit.folder + "/" + file.name) != file.bytes) return false;
    return true;
  } catch (const CorruptCheckpoint&) {
    return false;
  }
}

/// Commits older than the newest `keep` complete ones.
std::set<std::uint64_t> expired_slots(Storage& storage, const CommitLog& log, int keep) {
  std::set<std::uint64_t> expired;
  int kept = 0;
  for (auto commit = log.commits().rbegin(); commit != log.commits().rend(); ++commit) {
    if (keep > 0 && kept >= keep)
      expired.insert(commit->slot);
    else if (!log.is_distrusted(commit->slot) && is_complete(storage, *commit))
      ++kept;
  }
  return expired;
}

/// Whether an epoch that began after `epoch` writes there: "data/000002-NONCE/..." belongs to epoch 2.
bool is_newer(std::string_view key, std::uint64_t epoch) {
  const std::string_view name = key.substr(std::min(key.size(), std::string_view("data/").size()));
  std::uint64_t of_key = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), of_key);
  return parsed.ec != std::errc() || of_key > epoch;
}

/// "data/EPOCH-NONCE/CHECKPOINT" of "data/EPOCH-NONCE/CHECKPOINT/file".
std::string folder_of(const std::string& key) {
  return key.substr(0, key.rfind('/'));
}

}  // namespace

std::string epoch_folder(std::uint64_t epoch, const std::string& nonce) {
  char number[32];
  std::snprintf(number, sizeof number, "%06llu", static_cast<unsigned long long>(epoch));
  return std::string("data/") + number + "-" + nonce;
}

void collect_garbage(Storage& storage, CommitLog& log, int keep) {
  const auto expired = expired_slots(storage, log, keep);
  std::set<std::string> doomed;
  for (const auto& commit : log.commits())
    if (expired.contains(commit.slot)) doomed.insert(commit.folder);
  log.bury(expired);  // the tombstones first: nobody starts to read what is about to go
  std::set<std::string> live;
  for (const auto& commit : log.commits()) live.insert(commit.folder);
  // What no commit names: saves that failed, removals that were interrupted. A leader that came after this one may
  // have begun to write, which its commits, unknown here, will name.
  for (const auto& object : storage.list("data")) {
    const std::string folder = folder_of(object.key);
    if (!live.contains(folder) && !is_newer(folder, log.epoch())) doomed.insert(folder);
  }
  for (const auto& folder : doomed) {
    storage.remove_all(folder);
    log::debug("removed a checkpoint", {{"storage", storage.describe()}, {"folder", folder}});
  }
  storage.remove_unfinished("");
}

}  // namespace ddp::checkpoint
