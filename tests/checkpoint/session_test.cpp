// Saving and restoring by ranks that are threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/commit/checkpoint_files.h"
#include "checkpoint/commit/retention.h"
#include "tests/checkpoint/session_rig.h"

namespace ddp::checkpoint {
namespace {
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::IsEmpty;
using namespace testing_support;

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

}  // namespace
}  // namespace ddp::checkpoint
