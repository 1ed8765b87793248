// Saving and restoring by ranks that are threads, on storage that works, fails, and was tampered with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/commit/checkpoint_files.h"
#include "checkpoint/commit/retention.h"
#include "tests/checkpoint/fault_storage.h"
#include "tests/checkpoint/support.h"

namespace ddp::checkpoint {
namespace {
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace testing_support;
namespace fs = std::filesystem;

const SessionOptions kOptions{.keep = 3, .timeout = std::chrono::seconds(60)};

std::vector<std::string> save_all(const fs::path& folder, int ranks, std::int64_t step, std::uint64_t number,
                                  bool buffers_differ = false, const SessionOptions& options = kOptions) {
  return run_ranks(ranks, [&](Group& group) {
    Session session(group, std::make_shared<PosixStorage>(folder), options);
    PlainState state(group.rank(), number, buffers_differ);
    session.save(step, false, [&] { return state.tensors(); });
  });
}

/// The step restored; every rank's state must be the one of `number_of(step)`.
std::optional<std::int64_t> restore_one(Group& group, const fs::path& folder,
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
std::uint64_t same(std::int64_t step) {
  return static_cast<std::uint64_t>(step);
}

TEST(Session, RestoresNothingWhereNothingWasSaved) {
  TemporaryFolder folder;
  SingleGroup group;
  EXPECT_EQ(restore_one(group, folder.path(), same), std::nullopt);
}

TEST(Session, EveryRankGetsTheSharedAndItsOwnTensorsBack) {
  for (const int ranks : {1, 2, 5})
    for (const bool buffers_differ : {false, true}) {
      TemporaryFolder folder;
      EXPECT_THAT(save_all(folder.path(), ranks, 7, 7, buffers_differ), Each(IsEmpty()));
      EXPECT_THAT(run_ranks(ranks,
                            [&](Group& group) {
                              EXPECT_EQ(restore_one(group, folder.path(), same, buffers_differ), 7);
                            }),
                  Each(IsEmpty()));
    }
}

TEST(Session, RanksDivideTheSharedBytes) {
  const std::vector<TensorInfo> tensors{{"a", ElementType::kU8, {100}},
                                        {"b", ElementType::kU8, {60}},
                                        {"c", ElementType::kU8, {50}},
                                        {"d", ElementType::kU8, {40}},
                                        {"e", ElementType::kU8, {0}}};
  EXPECT_EQ(divide(tensors, 2), (std::vector<int>{0, 1, 1, 0, 1}));
  EXPECT_EQ(divide(tensors, 1), (std::vector<int>{0, 0, 0, 0, 0}));
}

TEST(Session, AnotherWorldSizeGetsTheSharedTensorsAndIsToldWhatIsAmbiguous) {
  TemporaryFolder folder;
  ASSERT_THAT(save_all(folder.path(), 2, 7, 7, true), Each(IsEmpty()));
  EXPECT_THAT(
      run_ranks(
          3,
          [&](Group& group) {
            Session session(group, std::make_shared<PosixStorage>(folder.path()), kOptions);
            const auto step = session.restore(
                {.select = [](const Catalog& catalog) -> std::vector<std::string> {
                   EXPECT_EQ(catalog.saved_world_size, 2);
                   EXPECT_FALSE(catalog.tensors.at("model/a").ambiguous);
                   EXPECT_TRUE(catalog.tensors.at("model/mean").ambiguous);
                   EXPECT_TRUE(catalog.tensors.at("sampler/value").ambiguous);
                   EXPECT_EQ(catalog.tensors.at("sampler/value").stored.rank, 0);
                   return {"model/a"};
                 },
                 .apply = [](const LoadedTensors& loaded) { EXPECT_EQ(loaded.at("model/a").bytes, 64U); }});
            EXPECT_EQ(step, 7);
          }),
      Each(IsEmpty()));
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

std::vector<std::string> folders_below(const fs::path& folder) {
  std::set<std::string> folders;
  for (const auto& file : files_below(folder)) folders.insert(file.parent_path().filename().string());
  return {folders.begin(), folders.end()};
}

TEST(Session, TheOldestCheckpointsGoAndTheirFilesWithThem) {
  TemporaryFolder folder;
  Rig rig(folder.path(), 2);
  for (int step = 1; step <= 5; ++step) rig.save(step);
  EXPECT_THAT(folders_below(folder.path() / "data"), testing::ElementsAre("0000000004.4", "0000000005.5"));
  EXPECT_EQ(restore_one(rig.group, folder.path(), same), 5);
}

TEST(Session, KeepZeroKeepsAll) {
  TemporaryFolder folder;
  Rig rig(folder.path(), 0);
  for (int step = 1; step <= 5; ++step) rig.save(step);
  EXPECT_EQ(folders_below(folder.path() / "data").size(), 5U);
}

TEST(Session, RetentionDoesNotCountCheckpointsWithMissingFiles) {
  TemporaryFolder folder;
  Rig rig(folder.path(), 2);
  rig.save(1);
  rig.save(2);
  fs::remove(files_below(folder.path() / "data").back());  // a file of step 2
  rig.save(3);
  EXPECT_THAT(folders_below(folder.path() / "data"),
              testing::ElementsAre("0000000001.1", "0000000002.2", "0000000003.3"));
}

TEST(Session, WhatEarlierIncarnationsLeftUnfinishedIsRemoved) {
  TemporaryFolder folder;
  {
    Rig rig(folder.path());
    rig.save(1);
    rig.storage->fail_at(3, FaultStorage::When::kBefore);
    EXPECT_THROW(rig.save(2), StorageError);
  }
  fs::create_directories(folder.path() / "data/000001-dead/0000000009.1");
  write_file(folder.path() / "data/000001-dead/0000000009.1/rank-00000-of-00001.safetensors", "half");
  Rig next(folder.path());
  next.save(3);
  EXPECT_THAT(folders_below(folder.path() / "data"), testing::ElementsAre("0000000001.1", "0000000003.1"));
}

TEST(Session, AnOlderLeaderThatTidiesUpLeavesANewerOnesUnfinishedDataAlone) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path());
  CommitLog older(storage);
  const CommitLog newer(storage);
  const std::string unfinished = epoch_folder(newer.epoch(), newer.nonce()) + "/0000000009.1/rank";
  const std::string failed = epoch_folder(older.epoch(), older.nonce()) + "/0000000008.1/rank";
  for (const auto& key : {unfinished, failed}) ASSERT_EQ(create(storage, key, "half"), Created::kYes);
  collect_garbage(storage, older, 1);
  EXPECT_TRUE(storage.size(unfinished).has_value());
  EXPECT_FALSE(storage.size(failed).has_value());
}

TEST(Session, ASaveByAnOlderIncarnationIsFencedOut) {
  TemporaryFolder folder;
  Rig zombie(folder.path());
  zombie.save(1);
  Rig leader(folder.path());
  EXPECT_EQ(leader.session.restore(leader.state.loader()), 1);
  EXPECT_THROW(zombie.save(2), FencedOut);
  EXPECT_THROW(zombie.save(3), FencedOut);
  leader.save(4);
  EXPECT_EQ(restore_one(leader.group, folder.path(), same), 4);
}

TEST(Session, AReaderFencesNobodyOutAndCannotSave) {
  TemporaryFolder folder;
  Rig trainer(folder.path());
  trainer.save(1);
  Session reader(trainer.group, trainer.storage, {.read_only = true});
  PlainState seen(0, 999);
  EXPECT_EQ(reader.restore(seen.loader()), 1);
  EXPECT_EQ(seen, PlainState(0, 1));
  EXPECT_THROW(reader.save(2, false, [&] { return seen.tensors(); }), ConfigError);
  trainer.save(2);
}

TEST(Session, TheStopOfOneRankReachesAll) {
  TemporaryFolder folder;
  EXPECT_THAT(run_ranks(3,
                        [&](Group& group) {
                          Session session(group, std::make_shared<PosixStorage>(folder.path()), kOptions);
                          PlainState state(group.rank(), 1);
                          const auto collect = [&] { return state.tensors(); };
                          EXPECT_FALSE(session.save(1, false, collect));
                          EXPECT_TRUE(session.save(2, group.rank() == 1, collect));
                        }),
              Each(IsEmpty()));
}

TEST(Session, ARankThatCannotWriteFailsTheSaveOnAllAndIsNamed) {
  TemporaryFolder folder;
  ASSERT_THAT(save_all(folder.path(), 3, 1, 1), Each(IsEmpty()));
  const auto errors = run_ranks(3, [&](Group& group) {
    auto storage = std::make_shared<FaultStorage>(std::make_shared<PosixStorage>(folder.path()));
    if (group.rank() == 1) storage->fail_at(0, FaultStorage::When::kBefore);
    Session session(group, storage, kOptions);
    PlainState state(group.rank(), 2);
    session.save(2, false, [&] { return state.tensors(); });
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("StorageError"), HasSubstr("rank 1"), HasSubstr("step 2"),
                                 HasSubstr("injected failure"))));
  EXPECT_THAT(folders_below(folder.path() / "data"), testing::ElementsAre("0000000001.1"))
      << "half a save was left";
  EXPECT_THAT(run_ranks(3, [&](Group& group) { EXPECT_EQ(restore_one(group, folder.path(), same), 1); }),
              Each(IsEmpty()));
}

TEST(Session, RanksWithDifferentTensorsAreShownTheFirstDifference) {
  TemporaryFolder folder;
  const auto errors = run_ranks(3, [&](Group& group) {
    Session session(group, std::make_shared<PosixStorage>(folder.path()), kOptions);
    PlainState state(group.rank(), 1);
    session.save(1, false, [&] {
      auto tensors = state.tensors();
      if (group.rank() == 2) tensors[1].info.shape = {1, 3};
      return tensors;
    });
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("MismatchError"), HasSubstr("model/b I32[3]"),
                                 HasSubstr("model/b I32[1, 3]"), HasSubstr("rank 2"))));
}

TEST(Session, RanksAtDifferentStepsAreAMismatch) {
  TemporaryFolder folder;
  const auto errors = run_ranks(2, [&](Group& group) {
    Session session(group, std::make_shared<PosixStorage>(folder.path()), kOptions);
    PlainState state(group.rank(), 1);
    session.save(5 + group.rank(), false, [&] { return state.tensors(); });
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("MismatchError"), HasSubstr("step 5"), HasSubstr("step 6"))));
}

TEST(Session, ARankThatDoesNotComeIsATimeout) {
  TemporaryFolder folder;
  const auto errors = run_ranks(2, [&](Group& group) {
    if (group.rank() == 1) return;
    Session session(group, std::make_shared<PosixStorage>(folder.path()),
                    {.timeout = std::chrono::milliseconds(50)});
    PlainState state(group.rank(), 1);
    session.save(1, false, [&] { return state.tensors(); });
  });
  EXPECT_THAT(errors[0], HasSubstr("TimeoutError"));
}

TEST(Session, AFileThatRankZeroDoesNotSeeIsNotCommitted) {
  TemporaryFolder folder, elsewhere;
  const auto errors = run_ranks(2, [&](Group& group) {
    const auto& path = group.rank() == 0 ? folder.path() : elsewhere.path();
    Session session(group, std::make_shared<PosixStorage>(path), kOptions);
    PlainState state(group.rank(), 1);
    session.save(1, false, [&] { return state.tensors(); });
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("StorageError"), HasSubstr("rank 1"),
                                 HasSubstr("share this file system"))));
}

TEST(Session, ARestoreThatDoesNotFitChangesNothing) {
  TemporaryFolder folder;
  Rig rig(folder.path());
  rig.save(1);
  bool applied = false;
  EXPECT_THROW((void)rig.session.restore(
                   {.select = [](const Catalog&) -> std::vector<std::string> { throw ConfigError("no"); },
                    .apply = [&](const LoadedTensors&) { applied = true; }}),
               ConfigError);
  EXPECT_FALSE(applied);
}

TEST(Session, ARestoreThatDoesNotFitFencesNobodyOut) {
  TemporaryFolder folder;
  Rig trainer(folder.path());
  trainer.save(1);
  Rig stranger(folder.path());
  EXPECT_THROW((void)stranger.session.restore({.select = [](const Catalog&) -> std::vector<std::string> {
                                                 throw ConfigError("another model");
                                               },
                                               .apply = {}}),
               ConfigError);
  EXPECT_NO_THROW(trainer.save(2));
}

TEST(Session, ACommitThatTheLeaderBeforeMadeWhileOneWasChosenIsRestoredInstead) {
  TemporaryFolder folder;
  Rig before(folder.path());
  before.save(1);
  Rig next(folder.path());
  StateLoader loader = next.state.loader();
  const auto select = loader.select;
  int choices = 0;
  loader.select = [&](const Catalog& catalog) {
    if (choices++ == 0) before.save(2);
    return select(catalog);
  };
  EXPECT_EQ(next.session.restore(loader), 2);
  EXPECT_EQ(choices, 2);
  EXPECT_THROW(before.save(3), FencedOut);
}

TEST(Session, ARestoreMendsWhatAKillAfterTheCommitLeftBehind) {
  TemporaryFolder folder;
  Rig before(folder.path());
  before.save(1);
  const std::string first = read_file(folder.path() / "latest");
  before.save(2);
  write_file(folder.path() / "latest", first);
  Rig next(folder.path());
  EXPECT_EQ(next.session.restore(next.state.loader()), 2);
  EXPECT_THAT(read_file(folder.path() / "latest"), HasSubstr("\"step\":2"));
}

TEST(Session, CheckpointsThatAllHaveTombstonesAreNoFreshStart) {
  TemporaryFolder folder;
  Rig rig(folder.path());
  rig.save(1);
  ASSERT_EQ(create(*rig.storage, tombstone_key(2), ""), Created::kYes);
  Rig next(folder.path());
  EXPECT_THROW((void)next.session.restore(next.state.loader()), CorruptCheckpoint);
}

class FaultAt : public testing::TestWithParam<FaultStorage::When> {};

TEST_P(FaultAt, EveryOperationOfASaveLosesNothingThatWasCommitted) {
  for (int operation = 0;; ++operation) {
    TemporaryFolder folder;
    const CapturedLog captured;
    Rig rig(folder.path(), 1);
    rig.save(1);
    rig.save(2);
    bool reported = false;
    rig.storage->fail_at(operation, GetParam());
    try {
      rig.save(3);
      reported = true;
    } catch (const StorageError&) {
    }
    const bool reached = rig.storage->operations() > operation;
    rig.storage->fail_at(0, FaultStorage::When::kNever);
    SingleGroup group;
    const auto step = restore_one(group, folder.path(), same);
    EXPECT_TRUE(reported ? step == 3 : step == 2 || step == 3) << "operation " << operation;
    // The same process, had it not been fenced by that restore, goes on; a new one does in any case.
    Rig next(folder.path(), 1);
    EXPECT_EQ(next.session.restore(next.state.loader()), step);
    next.save(4);
    EXPECT_EQ(restore_one(group, folder.path(), same), 4);
    if (!reached) {
      EXPECT_TRUE(reported);
      EXPECT_GT(operation, 10);
      return;
    }
  }
}

TEST_P(FaultAt, EveryOperationOfASaveLetsTheSameProcessGoOn) {
  for (int operation = 0;; ++operation) {
    TemporaryFolder folder;
    const CapturedLog captured;
    Rig rig(folder.path(), 1);
    rig.save(1);
    rig.storage->fail_at(operation, GetParam());
    try {
      rig.save(2);
    } catch (const StorageError&) {
    }
    const bool reached = rig.storage->operations() > operation;
    rig.storage->fail_at(0, FaultStorage::When::kNever);
    rig.save(2);
    rig.save(3);
    EXPECT_EQ(restore_one(rig.group, folder.path(), same), 3);
    EXPECT_EQ(folders_below(folder.path() / "data").size(), 1U)
        << "operation " << operation << " left data behind";
    if (!reached) return;
  }
}

TEST_P(FaultAt, EveryOperationOfARestoreGivesTheCheckpointOrAnError) {
  for (int operation = 0;; ++operation) {
    TemporaryFolder folder;  // a restore adds an entry to the log, and with it operations to the next one
    { Rig(folder.path()).save(1); }
    Rig rig(folder.path());
    const CapturedLog captured;
    rig.storage->fail_at(operation, GetParam());
    try {
      EXPECT_EQ(rig.session.restore(rig.state.loader()), 1);
      EXPECT_EQ(rig.state, PlainState(0, 1));
    } catch (const StorageError&) {
      EXPECT_NE(GetParam(), FaultStorage::When::kAnswerLost);
    }
    if (rig.storage->operations() <= operation) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, FaultAt,
                         testing::Values(FaultStorage::When::kBefore, FaultStorage::When::kAfter,
                                         FaultStorage::When::kAnswerLost));

/// A folder with the checkpoints of steps 1 and 2.
struct TwoCheckpoints {
  TwoCheckpoints() {
    Rig rig(folder.path());
    rig.save(1);
    const auto before = files_below(folder.path());
    rig.save(2);
    for (const auto& file : files_below(folder.path()))
      if (std::find(before.begin(), before.end(), file) == before.end()) newer.push_back(file);
  }
  TemporaryFolder folder;
  std::vector<fs::path> newer;  ///< files of the second one, its log entry included
};

/// Restoring must give step 1 (step 2 is damaged), say so, and read_only leaves the folder as it is.
void expect_fallback(const TwoCheckpoints& two, const std::string& damage) {
  CapturedLog captured;
  SingleGroup group;
  Session session(group, std::make_shared<PosixStorage>(two.folder.path()), {.read_only = true});
  PlainState state(0, 999);
  ASSERT_EQ(session.restore(state.loader()), 1) << damage;
  ASSERT_EQ(state, PlainState(0, 1)) << damage;
  ASSERT_THAT(captured.text(), HasSubstr("WARN")) << damage;
}

TEST(Damage, EverySingleFlippedByteFallsBack) {
  const TwoCheckpoints two;
  ASSERT_EQ(two.newer.size(), 3U);  // manifest, one file, log entry
  for (const auto& file : two.newer) {
    const std::string good = read_file(file);
    for (std::size_t byte = 0; byte < good.size(); ++byte) {
      std::string bad = good;
      bad[byte] = static_cast<char>(bad[byte] ^ (1 << byte % 8));
      write_file(file, bad);
      expect_fallback(two, file.string() + " byte " + std::to_string(byte));
    }
    write_file(file, good);
  }
}

TEST(Damage, EveryTruncationAndExtensionFallsBack) {
  const TwoCheckpoints two;
  for (const auto& file : two.newer) {
    const std::string good = read_file(file);
    for (std::size_t length = 0; length < good.size(); ++length) {
      write_file(file, good.substr(0, length));
      expect_fallback(two, file.string() + " cut to " + std::to_string(length));
    }
    write_file(file, good + "x");
    expect_fallback(two, file.string() + " made longer");
    write_file(file, good);
  }
}

TEST(Damage, EveryMissingFileFallsBack) {
  const TwoCheckpoints two;
  for (const auto& file : two.newer) {
    if (file.parent_path().filename() == "log") continue;  // without its entry, step 2 was never committed
    const std::string good = read_file(file);
    fs::remove(file);
    expect_fallback(two, file.string() + " removed");
    write_file(file, good);
  }
}

TEST(Damage, SeenByOneRankOnlyMakesAllFallBackTogether) {
  TemporaryFolder folder;
  ASSERT_THAT(save_all(folder.path(), 3, 1, 1), Each(IsEmpty()));
  ASSERT_THAT(save_all(folder.path(), 3, 2, 2), Each(IsEmpty()));
  for (const auto& file : files_below(folder.path() / "data"))
    if (file.string().find("0000000002.1/rank-00002") != std::string::npos) {
      std::string bad = read_file(file);
      bad.back() ^= 1;  // the last byte is rank 2's own tensor
      write_file(file, bad);
    }
  CapturedLog captured;
  EXPECT_THAT(run_ranks(3, [&](Group& group) { EXPECT_EQ(restore_one(group, folder.path(), same), 1); }),
              Each(IsEmpty()));
  EXPECT_THAT(captured.text(),
              AllOf(HasSubstr("does not verify"), HasSubstr("noticed_by_rank=2"), HasSubstr("SHA-256")));
}

TEST(Damage, OfAllCheckpointsIsAnErrorAndNotAFreshStart) {
  const TwoCheckpoints two;
  for (const auto& file : files_below(two.folder.path() / "data")) write_file(file, "");
  const CapturedLog captured;
  SingleGroup group;
  EXPECT_THROW((void)restore_one(group, two.folder.path(), same), CorruptCheckpoint);
}

TEST(Damage, OfTheWholeLogIsAnErrorAndNotAFreshStart) {
  const TwoCheckpoints two;
  fs::remove_all(two.folder.path() / "log");
  for (const bool read_only : {true, false}) {
    SingleGroup group;
    Session session(group, std::make_shared<PosixStorage>(two.folder.path()), {.read_only = read_only});
    PlainState state(0, 999);
    EXPECT_THAT([&] { (void)session.restore(state.loader()); },
                testing::ThrowsMessage<CorruptCheckpoint>(
                    HasSubstr("the log that says which of them count is gone")));
  }
}

TEST(Damage, AFileInTheLogWhoseNumberNoJobReachesIsSomebodyElses) {
  TemporaryFolder folder;
  { Rig(folder.path()).save(1); }
  write_file(folder.path() / "log/18446744073709551615", "x");
  Rig next(folder.path());
  EXPECT_EQ(next.session.restore(next.state.loader()), 1);
  next.save(2);
  SingleGroup group;
  EXPECT_EQ(restore_one(group, folder.path(), same), 2);
}

TEST(Damage, OfTheOnlyLogEntryIsAnErrorAndNotAFreshStart) {
  TemporaryFolder folder;
  { Rig(folder.path()).save(1); }
  write_file(folder.path() / log_key(2), "garbage");
  const CapturedLog captured;
  SingleGroup group;
  EXPECT_THROW((void)restore_one(group, folder.path(), same), CorruptCheckpoint);
}

TEST(Damage, ThatRestoreFoundDoesNotCountForRetention) {
  const TwoCheckpoints two;
  for (const auto& file : two.newer)
    if (file.extension() == ".safetensors") {
      std::string bad = read_file(file);
      bad.back() ^= 1;
      write_file(file, bad);
    }
  const CapturedLog captured;
  Rig rig(two.folder.path(), 2);
  EXPECT_EQ(rig.session.restore(rig.state.loader()), 1);
  rig.save(3);
  EXPECT_THAT(folders_below(two.folder.path() / "data"),
              testing::ElementsAre("0000000001.1", "0000000002.2", "0000000003.1"))
      << "the good step 1 was removed for the corrupt step 2";
}

}  // namespace
}  // namespace ddp::checkpoint
