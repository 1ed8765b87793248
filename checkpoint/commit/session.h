// Saving and restoring named tensors by all ranks together, torch-free: what Checkpointer does once tensors
// are plain bytes. docs/checkpoint-protocol.md tells the steps; log.h, session_save.cpp, session_restore.cpp and
// retention.h say which of them is theirs.
//
// Collective: all ranks call save() and restore() in the same order; one thread a rank.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <ddp/group.h>

#include "checkpoint/commit/log.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/storage/storage.h"

namespace ddp::checkpoint {

struct Ballot;

enum class Scope {
  kShared,         ///< the same on all ranks: stored once
  kSharedIfEqual,  ///< stored once when all ranks have the same bytes, for each rank otherwise
  kPerRank,        ///< stored for each rank
};

/// A tensor to be saved; the bytes must stay as they are until save() returns.
struct SavedTensor {
  TensorInfo info;
  Scope scope = Scope::kShared;
  std::span<const std::byte> bytes;
};

/// A tensor of a checkpoint as one rank of the restoring job sees it.
struct CatalogEntry {
  ManifestTensor stored;
  /// The job that saved had another world size and its ranks had different bytes: `stored` is rank 0's.
  bool ambiguous = false;
};
struct Catalog {
  int saved_world_size = 1;
  std::map<std::string, CatalogEntry> tensors;
};

/// Owns a tensor's bytes, aligned for every element type.
struct LoadedTensor {
  TensorInfo info;
  std::unique_ptr<std::byte[]> data;
  std::uint64_t bytes = 0;
};
using LoadedTensors = std::map<std::string, LoadedTensor>;

/// How restore() talks to the owner of the state.
struct StateLoader {
  /// Compares a checkpoint with the state; returns the names of the tensors to load. Throws ConfigError when
  /// they do not fit together.
  std::function<std::vector<std::string>(const Catalog&)> select;
  /// Puts verified tensors into the state.
  std::function<void(const LoadedTensors&)> apply;
};

struct SessionOptions {
  int keep = 3;
  std::chrono::nanoseconds timeout = std::chrono::minutes(10);
  bool read_only = false;
};

class Session {
 public:
  Session(Group& group, std::shared_ptr<Storage> storage, const SessionOptions& options);
  ~Session();

  /// Returns once the checkpoint is committed. `collect` gives this rank's tensors. True when some rank
  /// passed `stop`: the same on all ranks.
  bool save(std::int64_t step, bool stop, const std::function<std::vector<SavedTensor>()>& collect);

  /// The restored step; nullopt when nothing has been committed yet. Leads the log only once a checkpoint fits.
  [[nodiscard]] std::optional<std::int64_t> restore(const StateLoader& loader);

 private:
  struct Plan;
  [[nodiscard]] bool is_leader() const { return group_.rank() == 0; }
  [[nodiscard]] Deadline deadline() const { return Deadline::in(options_.timeout); }
  void lead();

  [[nodiscard]] std::string announce(std::int64_t step, bool stop, const std::vector<SavedTensor>& tensors);
  [[nodiscard]] Plan make_plan(std::int64_t step, const std::vector<std::string>& answers,
                               const std::vector<SavedTensor>& tensors) const;
  void require_same_structure(const std::vector<std::string>& answers,
                              const std::vector<SavedTensor>& tensors, const std::string& phase);
  [[nodiscard]] std::vector<std::string> write_shares(const Plan& plan,
                                                      const std::vector<SavedTensor>& tensors,
                                                      const std::string& phase);
  [[nodiscard]] std::string write_share(const Plan& plan, const std::vector<SavedTensor>& tensors);
  std::uint64_t commit(const Plan& plan, const std::vector<SavedTensor>& tensors,
                       const std::vector<std::string>& reports);
  void tidy(const Plan& plan);
  void point_latest_at(std::int64_t step, const std::string& folder);

  [[nodiscard]] std::string candidate();
  [[nodiscard]] std::string claim(const LogEntry& commit);
  [[nodiscard]] bool is_corrupt(const LogEntry& commit, const std::vector<Ballot>& ballots);
  [[nodiscard]] LoadedTensors load(const LogEntry& commit, const StateLoader& loader);

  Group& group_;
  std::shared_ptr<Storage> storage_;
  SessionOptions options_;
  std::unique_ptr<CommitLog> log_;      ///< rank 0, once it leads
  std::set<std::uint64_t> distrusted_;  ///< rank 0: slots of commits that did not verify
  /// Rank 0: saves begun by this leader, so that a repeated step has its own folder.
  std::uint64_t attempts_ = 0;
};

}  // namespace ddp::checkpoint
