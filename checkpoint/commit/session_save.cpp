// Session::save. The numbers are those of docs/checkpoint-protocol.md:
//   2 announce and plan (the same on every rank), 3 write shares, 4 manifest and commit by rank 0, 8 tidy.
#include <cstdio>
#include <limits>

#include <ddp/error.h>
#include <ddp/log.h>

#include "checkpoint/commit/checkpoint_files.h"
#include "checkpoint/commit/retention.h"
#include "checkpoint/commit/session.h"
#include "checkpoint/commit/share.h"
#include "checkpoint/commit/vote.h"
#include "checkpoint/format/crc32c.h"
#include "checkpoint/format/json.h"
#include "checkpoint/format/sha256.h"

namespace ddp::checkpoint {
namespace {

constexpr const char* kAnnouncement = "a rank's announcement";

/// One line a tensor that must be there on every rank.
std::string structure_of(const std::vector<SavedTensor>& tensors) {
  std::string lines;
  for (const auto& tensor : tensors)
    if (tensor.scope != Scope::kPerRank)
      lines += tensor.info.name + " " + describe(tensor.info) +
               (tensor.scope == Scope::kShared ? "\n" : " buffer\n");
  return lines;
}

std::string first_different_line(std::string_view ours, std::string_view theirs, std::string_view& other) {
  while (!ours.empty() && !theirs.empty()) {
    const std::string_view a = ours.substr(0, ours.find('\n')), b = theirs.substr(0, theirs.find('\n'));
    other = b;
    if (a != b) return std::string(a);
    ours.remove_prefix(std::min(ours.size(), a.size() + 1));
    theirs.remove_prefix(std::min(theirs.size(), b.size() + 1));
  }
  other = theirs.empty() ? "nothing" : theirs.substr(0, theirs.find('\n'));
  return std::string(ours.empty() ? "nothing" : ours.substr(0, ours.find('\n')));
}

std::string sha256_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::string checkpoint_folder(const CommitLog& log, std::int64_t step, std::uint64_t attempt) {
  char name[64];
  std::snprintf(name, sizeof name, "/%010lld.%llu", static_cast<long long>(step),
                static_cast<unsigned long long>(attempt));
  return epoch_folder(log.epoch(), log.nonce()) + name;
}

std::vector<TensorInfo> infos_of(const std::vector<SavedTensor>& tensors,
                                 const std::vector<std::size_t>& indices) {
  std::vector<TensorInfo> infos;
  for (const std::size_t i : indices) infos.push_back(tensors[i].info);
  return infos;
}

}  // namespace

/// What all ranks know after the first vote.
struct Session::Plan {
  std::int64_t step = 0;
  std::string folder;
  bool stop = false;
  std::vector<std::size_t> shared;  ///< tensors that are stored once
  std::vector<int> owners;          ///< who writes them
  std::vector<std::size_t> own;     ///< tensors of this rank alone
  std::map<std::string, std::string> metadata;

  [[nodiscard]] std::vector<std::size_t> shared_of(int rank) const {
    std::vector<std::size_t> result;
    for (std::size_t i = 0; i < shared.size(); ++i)
      if (owners[i] == rank) result.push_back(shared[i]);
    return result;
  }
};

bool Session::save(std::int64_t step, bool stop, const std::function<std::vector<SavedTensor>()>& collect) {
  if (options_.read_only) throw ConfigError("this checkpointer was made with read_only: it cannot save");
  if (step < 0 || step == std::numeric_limits<std::int64_t>::max())
    throw ConfigError("a checkpoint of step " + std::to_string(step) +
                      " was asked for; steps count from 0, and end below 2^63-1");
  const auto begin = Clock::now();
  const std::string phase = "saving step " + std::to_string(step);
  std::vector<SavedTensor> tensors;
  const auto answers = vote(group_, phase, deadline(), [&] {
    tensors = collect();
    return announce(step, stop, tensors);
  });
  require_same_structure(answers, tensors, phase);
  const Plan plan = make_plan(step, answers, tensors);
  const auto reports = write_shares(plan, tensors, phase + ", writing");
  std::uint64_t bytes = 0;
  (void)vote(group_, phase + ", committing", deadline(), [&] {
    if (is_leader()) bytes = commit(plan, tensors, reports);
    return std::string();
  });
  if (is_leader()) {
    log::info("checkpoint committed",
              {{"step", step},
               {"bytes", bytes},
               {"folder", plan.folder},
               {"seconds", std::chrono::duration<double>(Clock::now() - begin).count()}});
    tidy(plan);
  }
  return plan.stop;
}

// 2. Every rank says what it has; rank 0 says where it goes. Buffers come with a checksum, to learn which are equal.
std::string Session::announce(std::int64_t step, bool stop, const std::vector<SavedTensor>& tensors) {
  Json json = {{"structure", sha256(structure_of(tensors))}, {"stop", stop}, {"buffers", Json::array()}};
  for (const auto& tensor : tensors)
    if (tensor.scope == Scope::kSharedIfEqual) json["buffers"].push_back(sha256_of(tensor.bytes));
  if (is_leader()) {
    lead();
    log_->check_fence();
    json["folder"] = checkpoint_folder(*log_, step, ++attempts_);
  }
  return dump(json);
}

void Session::require_same_structure(const std::vector<std::string>& answers,
                                     const std::vector<SavedTensor>& tensors, const std::string& phase) {
  std::size_t different = 0;
  const std::string first = string_member(parse_json(answers[0], kAnnouncement), "structure", kAnnouncement);
  for (std::size_t rank = answers.size(); rank-- > 1;)
    if (string_member(parse_json(answers[rank], kAnnouncement), "structure", kAnnouncement) != first)
      different = rank;
  if (different == 0) return;
  // All ranks know that there is a difference, so all come here: one more exchange shows which.
  const auto lines = vote(group_, phase + ", comparing", deadline(), [&] { return structure_of(tensors); });
  std::string_view theirs;
  const std::string ours = first_different_line(lines[0], lines[different], theirs);
  throw MismatchError("checkpoint, " + phase + ": rank 0 has '" + ours + "' where rank " +
                      std::to_string(different) + " has '" + std::string(theirs) +
                      "'; model and optimizer must be the same on all ranks");
}

// 2, second half. From the same answers every rank computes the same division of work.
Session::Plan Session::make_plan(std::int64_t step, const std::vector<std::string>& answers,
                                 const std::vector<SavedTensor>& tensors) const {
  Plan plan{.step = step};
  std::vector<Json> parsed;
  for (const auto& answer : answers) parsed.push_back(parse_json(answer, kAnnouncement));
  for (const Json& answer : parsed)
    plan.stop = plan.stop || member(answer, "stop", kAnnouncement).get<bool>();
  plan.folder = string_member(parsed[0], "folder", kAnnouncement);
  std::size_t buffer = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    bool once = tensors[i].scope == Scope::kShared;
    if (tensors[i].scope == Scope::kSharedIfEqual) {
      once = true;
      for (const Json& answer : parsed)
        once = once && answer["buffers"][buffer] == parsed[0]["buffers"][buffer];
      ++buffer;
    }
    (once ? plan.shared : plan.own).push_back(i);
  }
  plan.owners = divide(infos_of(tensors, plan.shared), group_.size());
  plan.metadata = {
      {"format", "pt"}, {"step", std::to_string(step)}, {"world_size", std::to_string(group_.size())}};
  return plan;
}

// 3. Each rank writes one file. When one could not, nobody commits, and what was written goes at once: a full
// disk must not get fuller with every attempt.
std::vector<std::string> Session::write_shares(const Plan& plan, const std::vector<SavedTensor>& tensors,
                                               const std::string& phase) {
  const auto ballots = poll_ranks(group_, phase, deadline(), [&] { return write_share(plan, tensors); });
  std::vector<std::string> reports;
  for (const auto& ballot : ballots)
    if (ballot.ok) reports.push_back(ballot.text);
  if (reports.size() == ballots.size()) return reports;
  if (is_leader()) {
    try {
      storage_->remove_all(plan.folder);
    } catch (const Error& e) {
      log::warn("cannot remove a failed checkpoint", {{"folder", plan.folder}, {"reason", e.what()}});
    }
  }
  require_all(ballots, phase);
  return reports;
}

std::string Session::write_share(const Plan& plan, const std::vector<SavedTensor>& tensors) {
  std::vector<std::size_t> indices = plan.shared_of(group_.rank());
  indices.insert(indices.end(), plan.own.begin(), plan.own.end());
  const ShareLayout layout = lay_out(infos_of(tensors, indices), plan.metadata);
  ShareReport report{.bytes = layout.bytes, .own = infos_of(tensors, plan.own)};
  Sha256 hash;
  std::vector<std::span<const std::byte>> pieces{std::as_bytes(std::span(layout.header))};
  for (const std::size_t i : layout.order) {
    const auto bytes = tensors[indices[i]].bytes;
    if (bytes.size() != byte_count(tensors[indices[i]].info))
      throw Error("tensor '" + tensors[indices[i]].info.name + "' does not have the bytes its shape tells");
    report.crcs.push_back(crc32c(bytes));
    pieces.push_back(bytes);
  }
  for (const auto piece : pieces) hash.update(piece);
  report.sha256 = hash.finish();
  const std::string key = plan.folder + "/" + rank_file_name(group_.rank(), group_.size());
  const Created created = storage_->create(key, pieces);
  if (created == Created::kExists) throw StorageError(key + " is there already in " + storage_->describe());
  if (created == Created::kUnknown && storage_->size(key) != layout.bytes)
    throw StorageError("cannot tell whether " + key + " was written to " + storage_->describe());
  return to_text(report);
}

// 4. The manifest, then the log entry: from then on the checkpoint exists.
std::uint64_t Session::commit(const Plan& plan, const std::vector<SavedTensor>& tensors,
                              const std::vector<std::string>& reports) {
  Manifest manifest{plan.step, log_->epoch(), log_->nonce(), group_.size(), {}, {}};
  std::uint64_t total = 0;
  for (int rank = 0; rank < group_.size(); ++rank) {
    const ShareReport report = parse_report(reports[static_cast<std::size_t>(rank)]);
    auto infos = infos_of(tensors, plan.shared_of(rank));
    const std::size_t shared = infos.size();
    infos.insert(infos.end(), report.own.begin(), report.own.end());
    const ShareLayout layout = lay_out(infos, plan.metadata);
    const std::string name = rank_file_name(rank, group_.size());
    if (report.bytes != layout.bytes || report.crcs.size() != infos.size())
      throw Error("rank " + std::to_string(rank) + " wrote another file than was agreed on");
    if (storage_->size(plan.folder + "/" + name) != layout.bytes)
      throw StorageError("rank " + std::to_string(rank) + " has written " + name +
                         ", but rank 0 does not see it in " + storage_->describe() +
                         ": do all hosts share this file system?");
    for (std::size_t i = 0; i < layout.order.size(); ++i)
      manifest.tensors.push_back({infos[layout.order[i]],
                                  layout.order[i] < shared ? ManifestTensor::kEveryRank : rank,
                                  manifest.files.size(), layout.offsets[i], report.crcs[i]});
    manifest.files.push_back({name, report.bytes, report.sha256});
    total += report.bytes;
  }
  const std::string text = to_json(manifest);
  if (create(*storage_, plan.folder + "/manifest.json", text) == Created::kExists)
    throw StorageError(plan.folder + "/manifest.json is there already in " + storage_->describe());
  log_->commit(plan.step, plan.folder, sha256(text));
  return total;
}

void Session::point_latest_at(std::int64_t step, const std::string& folder) {
  storage_->put("latest", dump({{"step", step}, {"folder", folder}}) + "\n");
}

// 8. The checkpoint is safe; what goes wrong from here on is only told, and done again after the next save.
void Session::tidy(const Plan& plan) {
  try {
    point_latest_at(plan.step, plan.folder);
    collect_garbage(*storage_, *log_, options_.keep);
  } catch (const std::exception& e) {
    log::warn("cannot tidy up checkpoints", {{"storage", storage_->describe()}, {"reason", e.what()}});
  }
}

}  // namespace ddp::checkpoint
