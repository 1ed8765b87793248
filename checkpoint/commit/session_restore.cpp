// Session::restore. Step 7 of docs/checkpoint-protocol.md: from the newest commit backwards, until one
// verifies on every rank.
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
  log::info("leading the checkpoint log", {{"storage", storage_->describe()},
                                           {"epoch", log_->epoch()},
                                           {"nonce", log_->nonce()},
                                           {"checkpoints", log_->commits().size()}});
}

std::optional<std::int64_t> Session::restore(const StateLoader& loader) {
  for (std::size_t tried = 0;; ++tried) {
    const std::string chosen =
        vote(group_, "choosing a checkpoint to restore", deadline(), [&] { return candidate(tried); })[0];
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
    (void)vote(group_, phase + ", applying", deadline(), [&] {
      loader.apply(tensors);
      return std::string();
    });
    if (is_leader()) log::info("checkpoint restored", {{"step", commit.step}, {"folder", commit.folder}});
    return commit.step;
  }
}

/// On rank 0 the next one to try, empty when there has never been any; on others nothing.
std::string Session::candidate(std::size_t tried) {
  if (!is_leader()) return {};
  if (tried == 0 && options_.read_only)
    view_ = read_log(*storage_);
  else if (!options_.read_only)
    lead();
  const auto& commits = options_.read_only ? view_.commits : log_->commits();
  const std::size_t unreadable = options_.read_only ? view_.unreadable : log_->unreadable();
  if (tried < commits.size()) return encode(commits[commits.size() - 1 - tried]);
  if (tried == 0 && unreadable == 0) return {};
  // Starting from scratch over somebody's lost checkpoints is their decision, not ours.
  throw CorruptCheckpoint(
      "none of the " + std::to_string(tried + unreadable) + " checkpoints in " + storage_->describe() +
      " verifies; the warnings above say why. Repair it, or start over in another location");
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
