// Saving and restoring on storage that fails at every operation, and was tampered with.
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
