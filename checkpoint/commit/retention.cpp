#include "checkpoint/commit/retention.h"

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
  // What no commit names: saves of earlier epochs that failed, removals that were interrupted. This epoch's
  // own may be in the making.
  const std::string own = epoch_folder(log.epoch(), log.nonce()) + "/";
  for (const auto& object : storage.list("data")) {
    const std::string folder = folder_of(object.key);
    if (!folder.starts_with(own) && !live.contains(folder)) doomed.insert(folder);
  }
  for (const auto& folder : doomed) {
    storage.remove_all(folder);
    log::debug("removed a checkpoint", {{"storage", storage.describe()}, {"folder", folder}});
  }
  for (const char* folder : {"data", "log", "tombstones"}) storage.remove_unfinished(folder);
}

}  // namespace ddp::checkpoint
