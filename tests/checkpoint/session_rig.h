// What the tests of sessions share: a rank with storage that fails when told to, and saves and restores by several ranks.
#pragma once

#include <gtest/gtest.h>

#include <set>

#include "tests/checkpoint/fault_storage.h"
#include "tests/checkpoint/support.h"

namespace ddp::checkpoint::testing_support {
namespace fs = std::filesystem;

inline const SessionOptions kOptions{.keep = 3, .timeout = std::chrono::seconds(60)};

inline std::vector<std::string> save_all(const fs::path& folder, int ranks, std::int64_t step,
                                         std::uint64_t number, bool buffers_differ = false,
                                         const SessionOptions& options = kOptions) {
  return run_ranks(ranks, [&](Group& group) {
    Session session(group, std::make_shared<PosixStorage>(folder), options);
    PlainState state(group.rank(), number, buffers_differ);
    session.save(step, false, [&] { return state.tensors(); });
  });
}

/// The step restored; every rank's state must be the one of `number_of(step)`.
inline std::optional<std::int64_t> restore_one(Group& group, const fs::path& folder,
                                               const std::function<std::uint64_t(std::int64_t)>& number_of,
                                               bool buffers_differ = false) {
  Session session(group, std::make_shared<PosixStorage>(folder), kOptions);
  PlainState state(group.rank(), 999);
  const auto step = session.restore(state.loader());
  if (step) {
    EXPECT_EQ(state, PlainState(group.rank(), number_of(*step), buffers_differ));
  }
  return step;
}
inline std::uint64_t same(std::int64_t step) {
  return static_cast<std::uint64_t>(step);
}

/// One rank that saves and restores on a storage that can fail.
struct Rig {
  explicit Rig(const fs::path& folder, int keep = 3)
      : storage(std::make_shared<FaultStorage>(std::make_shared<PosixStorage>(folder))),
        session(group, storage, {.keep = keep, .timeout = std::chrono::seconds(60)}) {}
  void save(std::int64_t step, bool stop = false) {
    state.fill(static_cast<std::uint64_t>(step));
    stopped = session.save(step, stop, [&] { return state.tensors(); });
  }
  SingleGroup group;
  std::shared_ptr<FaultStorage> storage;
  Session session;
  PlainState state{0, 0};
  bool stopped = false;
};

inline std::vector<std::string> folders_below(const fs::path& folder) {
  std::set<std::string> folders;
  for (const auto& file : files_below(folder)) folders.insert(file.parent_path().filename().string());
  return {folders.begin(), folders.end()};
}

}  // namespace ddp::checkpoint::testing_support
