#include "checkpoint/commit/log.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <limits>
#include <optional>

#include <ddp/error.h>
#include <ddp/log.h>

#include "checkpoint/commit/retention.h"
#include "checkpoint/format/crc32c.h"
#include "checkpoint/format/json.h"
#include "checkpoint/format/sha256.h"

namespace ddp::checkpoint {
namespace {

constexpr std::uint64_t kMaximumEntryBytes = 64 * 1024;
constexpr std::size_t kCrcDigits = 8;
/// Far beyond what any job writes, and far from where numbers wrap around.
constexpr std::uint64_t kMaximumSlot = 1'000'000'000'000'000;

std::string slot_key(const char* folder, std::uint64_t slot) {
  char text[64];
  std::snprintf(text, sizeof text, "%s/%012llu", folder, static_cast<unsigned long long>(slot));
  return text;
}

/// The number in "log/000000000012"; nullopt for files that are none of ours.
std::optional<std::uint64_t> slot_of(std::string_view key) {
  const std::string_view name = key.substr(key.rfind('/') + 1);
  std::uint64_t slot = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), slot);
  const bool plausible = name.size() >= 12 && slot > 0 && slot <= kMaximumSlot;
  if (error != std::errc() || end != name.data() + name.size() || !plausible) return std::nullopt;
  return slot;
}

std::set<std::uint64_t> slots_in(Storage& storage, const char* folder) {
  std::set<std::uint64_t> slots;
  for (const auto& object : storage.list(folder))
    if (const auto slot = slot_of(object.key)) slots.insert(*slot);
  return slots;
}

/// nullopt, with a warning, when the entry does not verify.
std::optional<LogEntry> read_entry(Storage& storage, std::uint64_t slot) {
  try {
    const auto text = read_all(storage, log_key(slot), kMaximumEntryBytes);
    if (!text) throw CorruptCheckpoint(log_key(slot) + " vanished while it was read");
    return parse_log_entry(*text, slot);
  } catch (const CorruptCheckpoint& e) {
    log::warn("skipping an entry of the checkpoint log",
              {{"storage", storage.describe()}, {"reason", e.what()}});
    return std::nullopt;
  }
}

}  // namespace

std::string log_key(std::uint64_t slot) {
  return slot_key("log", slot);
}
std::string tombstone_key(std::uint64_t slot) {
  return slot_key("tombstones", slot);
}

std::string to_text(const LogEntry& entry) {
  Json json = {{"kind", entry.kind == LogEntry::Kind::kOpen ? "open" : "commit"},
               {"slot", entry.slot},
               {"epoch", entry.epoch},
               {"nonce", entry.nonce}};
  if (entry.kind == LogEntry::Kind::kCommit) {
    json["step"] = entry.step;
    json["folder"] = entry.folder;
    json["manifest_sha256"] = entry.manifest_sha256;
  }
  const std::string text = dump(json);
  return text + "\n" + crc_text(crc32c(text)) + "\n";
}

LogEntry parse_log_entry(std::string_view text, std::uint64_t slot) {
  const std::string what = log_key(slot);
  const std::size_t tail = kCrcDigits + 2;
  if (text.size() < tail || text.back() != '\n' || text[text.size() - tail] != '\n')
    throw CorruptCheckpoint(what + " is torn or not an entry of the log");
  const std::string_view json_text = text.substr(0, text.size() - tail);
  std::uint32_t crc = 0;
  if (!parse_crc(text.substr(text.size() - tail + 1, kCrcDigits), crc) || crc != crc32c(json_text))
    throw CorruptCheckpoint(what + ": its checksum does not fit");
  const Json json = parse_json(json_text, what);
  LogEntry entry;
  const std::string kind = string_member(json, "kind", what);
  if (kind != "open" && kind != "commit") throw CorruptCheckpoint(what + ": unknown kind '" + kind + "'");
  entry.slot = unsigned_member(json, "slot", what);
  if (entry.slot != slot)
    throw CorruptCheckpoint(what + " holds the entry of slot " + std::to_string(entry.slot));
  entry.epoch = unsigned_member(json, "epoch", what);
  entry.nonce = string_member(json, "nonce", what);
  if (kind == "open") return entry;
  entry.kind = LogEntry::Kind::kCommit;
  const std::uint64_t step = unsigned_member(json, "step", what);
  if (step >= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    throw CorruptCheckpoint(what + ": step " + std::to_string(step) + " is beyond what a step can be");
  entry.step = static_cast<std::int64_t>(step);
  entry.folder = string_member(json, "folder", what);
  check_key(entry.folder);
  // Folders are removed whole when they expire: only a leader's own may be named.
  const std::string own = epoch_folder(entry.epoch, entry.nonce) + "/";
  if (!entry.folder.starts_with(own) || entry.folder.find('/', own.size()) != std::string::npos)
    throw CorruptCheckpoint(what + ": folder '" + entry.folder.substr(0, 200) + "' is not one of its epoch");
  entry.manifest_sha256 = string_member(json, "manifest_sha256", what);
  return entry;
}

LogView read_log(Storage& storage) {
  auto slots = slots_in(storage, "log");
  if (slots.empty() && !storage.list("data").empty()) {
    slots =
        slots_in(storage, "log");  // data comes after its leader's entry: another leader may just have begun
    if (slots.empty())
      throw CorruptCheckpoint(
          "there are checkpoints in " + storage.describe() +
          " but the log that says which of them count is gone. Bring its log folder back, or start "
          "over in another location");
  }
  const auto buried = slots_in(storage, "tombstones");
  LogView view;
  for (const std::uint64_t slot : slots) {
    view.last_slot = slot;
    if (buried.contains(slot)) {
      // A commit follows the open entry of its epoch, so skipping it hides no epoch.
      ++view.buried;
      continue;
    }
    const auto entry = read_entry(storage, slot);
    if (!entry) {
      // It may have opened an epoch; no entry raises the epoch by more than one.
      ++view.unreadable;
      ++view.next_epoch;
      continue;
    }
    view.next_epoch = std::max(view.next_epoch, entry->epoch + 1);
    if (entry->kind == LogEntry::Kind::kCommit) view.commits.push_back(*entry);
  }
  return view;
}

CommitLog::CommitLog(Storage& storage) : storage_(storage), nonce_(random_hex(8)) {
  LogView view = read_log(storage);
  for (;;) {
    epoch_ = view.next_epoch;
    last_slot_ = view.last_slot;
    LogEntry entry{.kind = LogEntry::Kind::kOpen, .slot = 0, .epoch = epoch_, .nonce = nonce_};
    if (take(entry) == Slot::kOurs) break;
    // Lost against another leader, which thereby became the older one: read what it wrote, go behind it. The
    // slot counts as taken even if a listing should not show it yet.
    view = read_log(storage);
    view.last_slot = std::max(view.last_slot, entry.slot);
  }
  lost_ = view.lost();
  commits_ = std::move(view.commits);
}

CommitLog::Slot CommitLog::take(LogEntry& entry) {
  entry.slot = last_slot_ + 1;
  const Created created = create(storage_, log_key(entry.slot), to_text(entry));
  const Slot slot = created == Created::kYes ? Slot::kOurs : inspect(entry);
  if (slot != Slot::kTheirs) last_slot_ = entry.slot;
  return slot;
}

CommitLog::Slot CommitLog::inspect(const LogEntry& entry) {
  const auto found = read_entry(storage_, entry.slot);
  if (!found || found->nonce != nonce_) return Slot::kTheirs;
  return *found == entry ? Slot::kOurs : Slot::kOurEarlier;
}

void CommitLog::fenced_out(std::uint64_t slot) {
  const auto entry = read_entry(storage_, slot);
  const std::string who =
      entry ? "epoch " + std::to_string(entry->epoch) + ", nonce " + entry->nonce : "an unreadable entry";
  throw FencedOut("another incarnation of this job (" + who + ") took slot " + std::to_string(slot) +
                  " of the checkpoint log in " + storage_.describe() + "; this one (epoch " +
                  std::to_string(epoch_) + ", nonce " + nonce_ +
                  ") must stop. Two jobs must not share a checkpoint location");
}

void CommitLog::check_fence() {
  const std::uint64_t next = last_slot_ + 1;
  if (!storage_.size(log_key(next))) return;
  // Our own: an earlier commit whose outcome we did not learn.
  const auto entry = read_entry(storage_, next);
  if (!entry || entry->nonce != nonce_) fenced_out(next);
}

void CommitLog::commit(std::int64_t step, const std::string& folder, const std::string& manifest_sha256) {
  LogEntry entry{LogEntry::Kind::kCommit, 0, epoch_, nonce_, step, folder, manifest_sha256};
  for (;;) {
    switch (take(entry)) {
      case Slot::kOurs:
        commits_.push_back(entry);
        return;
      case Slot::kTheirs:
        fenced_out(entry.slot);
      case Slot::kOurEarlier:
        // That save was reported as failed, but its checkpoint is complete: keep it in mind for retention.
        if (const auto earlier = read_entry(storage_, entry.slot)) commits_.push_back(*earlier);
    }
  }
}

void CommitLog::bury(const std::set<std::uint64_t>& slots) {
  for (const std::uint64_t slot : slots) {
    // A tombstone that is there already (a leader before us was interrupted) serves as well.
    if (create(storage_, tombstone_key(slot), "") == Created::kUnknown && !storage_.size(tombstone_key(slot)))
      throw StorageError("cannot tell whether " + tombstone_key(slot) + " was created in " +
                         storage_.describe());
  }
  std::erase_if(commits_, [&](const LogEntry& entry) { return slots.contains(entry.slot); });
}

}  // namespace ddp::checkpoint
