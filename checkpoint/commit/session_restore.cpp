// Session::restore. Step 7 of docs/checkpoint-protocol.md: from the newest commit backwards, until one
// verifies on every rank. Only then is the log claimed: a job that cannot go on from what is there fences out
// nobody who can.
#include <algorithm>
#include <charconv>

#include <ddp/error.h>
#include <ddp/log.h>

#include "checkpoint/commit/checkpoint_files.h"
#include "checkpoint/commit/session.h"
#include "checkpoint/commit/vote.h"

namespace ddp::checkpoint {
namespace {

/// "SLOT ENTRY": how rank 0 tells the others which checkpoint comes next.
std::string encode(const LogEntry& entry) {
  return std::to_string(entry.slot) + " " + to_text(entry);
}

LogEntry decode(std::string_view text) {
  std::uint64_t slot = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), slot);
  if (error != std::errc() || end == text.data() + text.size()) throw Error("rank 0 named no checkpoint");
  return parse_log_entry(text.substr(static_cast<std::size_t>(end - text.data()) + 1), slot);
}

/// What rank `rank` of `world_size` sees.
Catalog make_catalog(const Manifest& manifest, int rank, int world_size) {
  Catalog catalog{.saved_world_size = manifest.world_size};
  const bool same_size = manifest.world_size == world_size;
  std::map<std::string, int> copies;
  for (const auto& tensor : manifest.tensors) {
    if (tensor.rank != ManifestTensor::kEveryRank && same_size && tensor.rank != rank) continue;
    const auto [at, is_new] = catalog.tensors.try_emplace(tensor.info.name, CatalogEntry{tensor});
    auto& entry = at->second;
    if (tensor.rank == ManifestTensor::kEveryRank || same_size) continue;
    ++copies[tensor.info.name];
    if (is_new) continue;
    if (tensor.info != entry.stored.info || tensor.crc32c != entry.stored.crc32c) entry.ambiguous = true;
    if (tensor.rank < entry.stored.rank) entry.stored = tensor;
  }
  for (const auto& [name, count] : copies)
    if (count != manifest.world_size) catalog.tensors[name].ambiguous = true;
  return catalog;
}

}  // namespace

Session::Session(Group& group, std::shared_ptr<Storage> storage, const SessionOptions& options)
    : group_(group), storage_(std::move(storage)), options_(options) {}
Session::~Session() = default;

void Session::lead() {
  if (log_ != nullptr) return;
  log_ = std::make_unique<CommitLog>(*storage_);
  for (const std::uint64_t slot : distrusted_) log_->distrust(slot);
  log::info("leading the checkpoint log", {{"storage", storage_->describe()},
                                           {"epoch", log_->epoch()},
                                           {"nonce", log_->nonce()},
                                           {"checkpoints", log_->commits().size()}});
}

std::optional<std::int64_t> Session::restore(const StateLoader& loader) {
  distrusted_.clear();  // somebody may have repaired it since
  for (;;) {
    const std::string chosen =
        vote(group_, "choosing a checkpoint to restore", deadline(), [&] { return candidate(); })[0];
    if (chosen.empty()) return std::nullopt;
    const LogEntry commit = decode(chosen);
    const std::string phase = "restoring step " + std::to_string(commit.step);
    LoadedTensors tensors;
    const auto ballots = poll_ranks(group_, phase, deadline(), [&] {
      tensors = load(commit, loader);
      return std::string();
    });
    if (is_corrupt(commit, ballots)) continue;
    require_all(ballots, phase);
    const std::string newer =
        vote(group_, phase + ", claiming the log", deadline(), [&] { return claim(commit); })[0];
    if (!newer.empty()) continue;
    (void)vote(group_, phase + ", applying", deadline(), [&] {
      loader.apply(tensors);
      return std::string();
    });
    if (is_leader()) log::info("checkpoint restored", {{"step", commit.step}, {"folder", commit.folder}});
    return commit.step;
  }
}

/// On rank 0 the newest commit that may verify, empty when there has never been any; on others nothing. Whoever
/// does not lead reads the log anew each time: its leader may go on, and remove what is older.
std::string Session::candidate() {
  if (!is_leader()) return {};
  std::optional<LogView> view;
  if (log_ == nullptr) view = read_log(*storage_);
  const bool is_empty = view && view->commits.empty() && view->lost() == 0;
  if (is_empty && !options_.read_only && distrusted_.empty()) {
    lead();
    view.reset();
  }
  const auto& commits = view ? view->commits : log_->commits();
  const auto newest = std::find_if(commits.rbegin(), commits.rend(), [&](const LogEntry& commit) {
    return !distrusted_.contains(commit.slot);
  });
  if (newest != commits.rend()) return encode(*newest);
  const std::size_t lost = distrusted_.size() + (view ? view->lost() : log_->lost());
  if (lost == 0) return {};
  // Starting from scratch over somebody's lost checkpoints is their decision, not ours.
  throw CorruptCheckpoint(
      "none of the " + std::to_string(lost) + " checkpoints in " + storage_->describe() +
      " verifies; the warnings above say why. Repair it, or start over in another location");
}

/// On rank 0: leads from here on. Something when a leader before us has committed since the choice was made.
std::string Session::claim(const LogEntry& commit) {
  if (!is_leader() || options_.read_only || log_ != nullptr) return {};
  lead();
  const auto& commits = log_->commits();
  if (!commits.empty() && commits.back().slot > commit.slot && !distrusted_.contains(commits.back().slot))
    return "newer";
  try {
    point_latest_at(commit.step, commit.folder);  // a kill right after the commit has left it behind
  } catch (const StorageError& e) {
    log::warn("cannot replace latest", {{"storage", storage_->describe()}, {"reason", e.what()}});
  }
  return {};
}

bool Session::is_corrupt(const LogEntry& commit, const std::vector<Ballot>& ballots) {
  const auto bad = std::find_if(ballots.begin(), ballots.end(), [](const Ballot& ballot) {
    return !ballot.ok && ballot.kind == ErrorKind::kCorruptCheckpoint;
  });
  if (bad == ballots.end()) return false;
  if (is_leader()) {
    log::warn("checkpoint does not verify, trying the one before",
              {{"step", commit.step},
               {"folder", commit.folder},
               {"noticed_by_rank", bad - ballots.begin()},
               {"reason", bad->text}});
    distrusted_.insert(commit.slot);
    if (log_ != nullptr) log_->distrust(commit.slot);
  }
  return true;
}

LoadedTensors Session::load(const LogEntry& commit, const StateLoader& loader) {
  const Manifest manifest = read_manifest(*storage_, commit);
  const Catalog catalog = make_catalog(manifest, group_.rank(), group_.size());
  for (const auto& file : manifest.files)
    if (storage_->size(commit.folder + "/" + file.name) != file.bytes)
      throw CorruptCheckpoint(commit.folder + "/" + file.name + " is missing or does not have " +
                              std::to_string(file.bytes) + " bytes");
  const auto names = loader.select(catalog);
  // The ranks share the work of reading every file whole; each checks the CRC of what it loads itself.
  for (auto file = static_cast<std::size_t>(group_.rank()); file < manifest.files.size();
       file += static_cast<std::size_t>(group_.size()))
    verify_file(*storage_, commit.folder, manifest, file);
  LoadedTensors tensors;
  for (const auto& name : names) {
    const ManifestTensor& stored = catalog.tensors.at(name).stored;
    const std::uint64_t bytes = byte_count(stored.info).value_or(0);
    LoadedTensor tensor{stored.info, std::unique_ptr<std::byte[]>(new std::byte[bytes]), bytes};
    read_tensor(*storage_, commit.folder, manifest, stored, {tensor.data.get(), bytes});
    tensors.emplace(name, std::move(tensor));
  }
  return tensors;
}

}  // namespace ddp::checkpoint
