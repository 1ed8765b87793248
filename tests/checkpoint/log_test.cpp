#include "checkpoint/commit/log.h"
#include "checkpoint/commit/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/checkpoint/fault_storage.h"
#include "tests/checkpoint/support.h"

namespace ddp::checkpoint {
namespace {
using testing::HasSubstr;
using namespace testing_support;

const std::string kSha(64, 'a');

class LogTest : public testing::Test {
 protected:
  TemporaryFolder folder_;
  PosixStorage storage_{folder_.path()};
};

TEST_F(LogTest, EachLeaderGetsAHigherEpoch) {
  CommitLog first(storage_), second(storage_);
  EXPECT_EQ(first.epoch(), 1U);
  EXPECT_EQ(second.epoch(), 2U);
  EXPECT_NE(first.nonce(), second.nonce());
}

TEST_F(LogTest, CommitsAreReadBackInOrder) {
  CommitLog log(storage_);
  log.commit(10, epoch_folder(log.epoch(), log.nonce()) + "/a", kSha);
  log.commit(20, epoch_folder(log.epoch(), log.nonce()) + "/b", kSha);
  const LogView view = read_log(storage_);
  ASSERT_EQ(view.commits.size(), 2U);
  EXPECT_EQ(view.commits[0].step, 10);
  EXPECT_THAT(view.commits[1].folder, testing::EndsWith("/b"));
  EXPECT_EQ(view.commits, log.commits());
}

TEST_F(LogTest, TheOlderOfTwoLeadersIsFencedOutAndToldBy) {
  CommitLog zombie(storage_);
  zombie.commit(10, epoch_folder(zombie.epoch(), zombie.nonce()) + "/a", kSha);
  CommitLog leader(storage_);
  EXPECT_EQ(leader.commits().size(), 1U);
  EXPECT_THROW(zombie.check_fence(), FencedOut);
  try {
    zombie.commit(20, epoch_folder(zombie.epoch(), zombie.nonce()) + "/zombie", kSha);
    FAIL() << "a zombie committed";
  } catch (const FencedOut& e) {
    EXPECT_THAT(e.what(), HasSubstr("epoch 2"));
    EXPECT_THAT(e.what(), HasSubstr(leader.nonce()));
  }
  leader.check_fence();
  leader.commit(11, epoch_folder(leader.epoch(), leader.nonce()) + "/b", kSha);
  EXPECT_THROW(zombie.commit(30, epoch_folder(zombie.epoch(), zombie.nonce()) + "/zombie", kSha), FencedOut);
  for (const auto& commit : read_log(storage_).commits)
    EXPECT_THAT(commit.folder, testing::Not(testing::EndsWith("/zombie")));
}

TEST_F(LogTest, LeadersThatStartTogetherAllGetEpochsOfTheirOwn) {
  constexpr int kLeaders = 8;
  std::mutex mutex;
  std::set<std::uint64_t> epochs;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kLeaders; ++i)
      threads.emplace_back([&] {
        CommitLog log(storage_);
        const std::lock_guard lock(mutex);
        epochs.insert(log.epoch());
      });
  }
  EXPECT_EQ(epochs.size(), static_cast<std::size_t>(kLeaders));
}

TEST_F(LogTest, OfTwoLeadersThatCommitAgainAndAgainOnlyTheNewerIsHeard) {
  CommitLog older(storage_);
  std::atomic<int> before{0};
  std::atomic<bool> fenced{false};
  std::jthread zombie([&] {
    try {
      for (int i = 0;; ++i) {
        older.commit(i, epoch_folder(older.epoch(), older.nonce()) + "/old", kSha);
        ++before;
      }
    } catch (const FencedOut&) {
      fenced = true;
    }
  });
  while (before < 5) std::this_thread::yield();
  CommitLog newer(storage_);
  zombie.join();
  EXPECT_TRUE(fenced);
  newer.commit(1000, epoch_folder(newer.epoch(), newer.nonce()) + "/new", kSha);
  const auto commits = read_log(storage_).commits;
  EXPECT_THAT(commits.back().folder, testing::EndsWith("/new"));
  EXPECT_EQ(static_cast<int>(commits.size()), before + 1)
      << "a commit that was reported is missing, or one was not";
}

TEST_F(LogTest, ALostAnswerIsSettledByReadingTheSlotBack) {
  auto faulty = FaultStorage(std::make_shared<PosixStorage>(folder_.path()));
  CommitLog log(faulty);
  faulty.fail_at(0, FaultStorage::When::kAnswerLost);
  log.commit(10, epoch_folder(log.epoch(), log.nonce()) + "/a", kSha);
  log.commit(20, epoch_folder(log.epoch(), log.nonce()) + "/b", kSha);
  EXPECT_EQ(read_log(storage_).commits.size(), 2U);
}

TEST_F(LogTest, ACommitThatFailedButIsThereIsOwnedByTheNextOne) {
  auto faulty = FaultStorage(std::make_shared<PosixStorage>(folder_.path()));
  CommitLog log(faulty);
  faulty.fail_at(0, FaultStorage::When::kAfter);
  EXPECT_THROW(log.commit(10, epoch_folder(log.epoch(), log.nonce()) + "/a", kSha), StorageError);
  log.check_fence();
  log.commit(20, epoch_folder(log.epoch(), log.nonce()) + "/b", kSha);
  EXPECT_EQ(log.commits().size(), 2U);
  EXPECT_EQ(log.commits(), read_log(storage_).commits);
}

TEST_F(LogTest, AnyFlippedBitOfAnEntryIsNoticedAndSkippedWithAWarning) {
  CommitLog log(storage_);
  log.commit(10, epoch_folder(log.epoch(), log.nonce()) + "/a", kSha);
  const auto path = folder_.path() / log_key(2);
  const std::string good = read_file(path);
  const CapturedLog captured;
  for (std::size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << byte % 8));
    EXPECT_THROW((void)parse_log_entry(bad, 2), CorruptCheckpoint) << byte;
    EXPECT_THROW((void)parse_log_entry(good.substr(0, byte), 2), CorruptCheckpoint) << byte;
  }
  write_file(path, good.substr(0, 20));
  const LogView view = read_log(storage_);
  EXPECT_TRUE(view.commits.empty());
  EXPECT_EQ(view.unreadable, 1U);
  EXPECT_EQ(view.last_slot, 2U);
}

TEST_F(LogTest, AnEpochIsNeverReusedEvenWhenItsEntryIsUnreadable) {
  { CommitLog log(storage_); }
  { CommitLog log(storage_); }
  write_file(folder_.path() / log_key(2), "garbage");
  const CapturedLog captured;
  CommitLog log(storage_);
  EXPECT_GE(log.epoch(), 3U);
}

TEST_F(LogTest, AnEntryThatNamesAFolderOfSomebodyElseOrAnImpossibleStepIsRefused) {
  LogEntry entry{LogEntry::Kind::kCommit, 2, 1, "ab", 7, epoch_folder(1, "ab") + "/7", std::string(64, 'a')};
  EXPECT_EQ(parse_log_entry(to_text(entry), 2), entry);
  for (const char* folder :
       {"log", "data", "data/000001-ab", "data/000001-ab/7/deeper", "data/000002-ab/7"}) {
    LogEntry other = entry;
    other.folder = folder;
    EXPECT_THROW((void)parse_log_entry(to_text(other), 2), CorruptCheckpoint) << folder;
  }
  for (const std::int64_t step : {std::int64_t{-1}, std::numeric_limits<std::int64_t>::max()}) {
    LogEntry other = entry;
    other.step = step;
    EXPECT_THROW((void)parse_log_entry(to_text(other), 2), CorruptCheckpoint) << step;
  }
}

TEST_F(LogTest, AnEntryCopiedIntoAnotherSlotIsNoticed) {
  CommitLog log(storage_);
  log.commit(10, epoch_folder(log.epoch(), log.nonce()) + "/a", kSha);
  EXPECT_THROW((void)parse_log_entry(read_file(folder_.path() / log_key(2)), 3), CorruptCheckpoint);
}

TEST_F(LogTest, BuriedCommitsAreGoneForLaterLeaders) {
  CommitLog log(storage_);
  log.commit(10, epoch_folder(log.epoch(), log.nonce()) + "/a", kSha);
  log.commit(20, epoch_folder(log.epoch(), log.nonce()) + "/b", kSha);
  log.bury({2});
  EXPECT_EQ(log.commits().size(), 1U);
  CommitLog next(storage_);
  ASSERT_EQ(next.commits().size(), 1U);
  EXPECT_EQ(next.commits()[0].step, 20);
}

}  // namespace
}  // namespace ddp::checkpoint
