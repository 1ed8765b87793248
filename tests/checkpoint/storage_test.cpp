#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <barrier>
#include <latch>

#include "tests/checkpoint/support.h"

namespace ddp::checkpoint {
namespace {
using testing::HasSubstr;
using testing::UnorderedElementsAre;
using namespace testing_support;

std::vector<std::string> keys(Storage& storage, std::string_view folder) {
  std::vector<std::string> result;
  for (const auto& object : storage.list(folder)) result.push_back(object.key);
  return result;
}

TEST(PosixStorage, CreatesReadsListsAndRemoves) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path() / "a/b");
  EXPECT_TRUE(storage.list("data").empty());
  EXPECT_EQ(create(storage, "data/x/one", "first"), Created::kYes);
  EXPECT_EQ(create(storage, "data/two", ""), Created::kYes);
  EXPECT_EQ(read_all(storage, "data/x/one", 100), "first");
  EXPECT_EQ(storage.size("data/two"), 0U);
  EXPECT_EQ(storage.size("data/three"), std::nullopt);
  EXPECT_EQ(storage.size("data/two/three"), std::nullopt);
  EXPECT_THAT(keys(storage, "data"), UnorderedElementsAre("data/x/one", "data/two"));
  storage.remove("data/two");
  storage.remove("data/two");
  EXPECT_THAT(keys(storage, "data"), UnorderedElementsAre("data/x/one"));
  storage.remove_all("data");
  EXPECT_TRUE(storage.list("data").empty());
}

TEST(PosixStorage, AnObjectIsCreatedOnceAndThenStays) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path());
  EXPECT_EQ(create(storage, "k", "mine"), Created::kYes);
  EXPECT_EQ(create(storage, "k", "yours"), Created::kExists);
  EXPECT_EQ(read_all(storage, "k", 100), "mine");
  EXPECT_EQ(files_below(folder.path()).size(), 1U) << "a temporary file was left behind";
}

TEST(PosixStorage, OfManyWhoCreateAtOnceExactlyOneWins) {
  constexpr int kThreads = 8, kRounds = 50;
  TemporaryFolder folder;
  PosixStorage storage(folder.path());
  std::barrier start(kThreads);
  std::vector<std::atomic<int>> winners(kRounds);
  std::vector<std::string> contents(kRounds);
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread)
      threads.emplace_back([&, thread] {
        for (int round = 0; round < kRounds; ++round) {
          start.arrive_and_wait();
          const std::string text(100, static_cast<char>('a' + thread));
          if (create(storage, "log/" + std::to_string(round), text) == Created::kYes) {
            ++winners[static_cast<std::size_t>(round)];
            contents[static_cast<std::size_t>(round)] = text;
          }
        }
      });
  }
  for (std::size_t round = 0; round < kRounds; ++round) {
    EXPECT_EQ(winners[round], 1);
    EXPECT_EQ(read_all(storage, "log/" + std::to_string(round), 1000), contents[round]);
  }
}

TEST(PosixStorage, PutReplacesAndAReaderNeverSeesAMixture) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path());
  storage.put("latest", std::string(5000, 'a'));
  std::jthread writer([&] {
    for (int i = 0; i < 50; ++i) storage.put("latest", std::string(5000, i % 2 == 0 ? 'b' : 'a'));
  });
  for (int i = 0; i < 200; ++i) {
    const std::string text = read_all(storage, "latest", 10'000).value();
    ASSERT_EQ(text, std::string(5000, text[0]));
  }
}

TEST(PosixStorage, PiecesOfAllSizesAreJoined) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path());
  const std::vector<std::string> texts{"", "a", std::string(200'000, 'b'), std::string(65'536, 'c'), "d", ""};
  std::vector<std::span<const std::byte>> pieces;
  std::string whole;
  for (const auto& text : texts) {
    pieces.push_back(std::as_bytes(std::span(text)));
    whole += text;
  }
  EXPECT_EQ(storage.create("x", pieces), Created::kYes);
  EXPECT_EQ(read_all(storage, "x", 1 << 20), whole);
}

TEST(PosixStorage, ReadingBeyondTheEndOrNothingIsCorrupt) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path());
  EXPECT_EQ(create(storage, "x", "12345"), Created::kYes);
  std::array<std::byte, 4> into{};
  EXPECT_NO_THROW(storage.read("x", 1, into));
  EXPECT_THROW(storage.read("x", 2, into), CorruptCheckpoint);
  EXPECT_THROW(storage.read("y", 0, into), CorruptCheckpoint);
  EXPECT_THROW((void)read_all(storage, "x", 4), CorruptCheckpoint);
}

TEST(PosixStorage, KeysThatLeaveTheFolderAreRefused) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path());
  for (const char* key :
       {"", "/", "..", "../x", "a/../b", "a//b", "a/", "/a", ".tmp-x", "a/.b", "a b", "a\nb", "ä"}) {
    EXPECT_THROW((void)storage.size(key), CorruptCheckpoint) << key;
    EXPECT_THROW((void)create(storage, key, ""), CorruptCheckpoint) << key;
    EXPECT_THROW(storage.remove_all(key), CorruptCheckpoint) << key;
  }
  EXPECT_TRUE(files_below(folder.path()).empty());
}

TEST(PosixStorage, SymbolicLinksAreNotFollowed) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path() / "root");
  EXPECT_EQ(create(storage, "x", "text"), Created::kYes);
  write_file(folder.path() / "secret", "secret");
  std::filesystem::create_symlink(folder.path() / "secret", folder.path() / "root/link");
  std::array<std::byte, 6> into{};
  EXPECT_THROW((void)storage.size("link"), CorruptCheckpoint);
  EXPECT_THROW(storage.read("link", 0, into), StorageError);
}

TEST(PosixStorage, FilesAreForTheirOwnerOnly) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path() / "root");
  EXPECT_EQ(create(storage, "a/x", "text"), Created::kYes);
  struct stat status {};
  ASSERT_EQ(::stat((folder.path() / "root/a/x").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  ASSERT_EQ(::stat((folder.path() / "root/a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0700U);
}

TEST(PosixStorage, ErrorsNameTheFileAndTheReason) {
  TemporaryFolder folder;
  write_file(folder.path() / "file", "in the way");
  PosixStorage storage(folder.path() / "file/root");
  try {
    (void)create(storage, "x", "text");
    FAIL();
  } catch (const StorageError& e) {
    EXPECT_THAT(e.what(), HasSubstr((folder.path() / "file").string()));
    EXPECT_THAT(e.what(), HasSubstr("Not a directory"));
  }
}

TEST(PosixStorage, WhatInterruptedWritersLeftIsHiddenAndGoesWithAge) {
  TemporaryFolder folder;
  PosixStorage young(folder.path(), std::chrono::hours(1)), old(folder.path(), std::chrono::seconds(-10));
  EXPECT_EQ(create(young, "data/e/x", "text"), Created::kYes);
  std::filesystem::create_directories(folder.path() / "data/f");
  write_file(folder.path() / "data/e/.tmp-1234", "half");
  write_file(folder.path() / "data/f/.tmp-5678", "half");
  write_file(folder.path() / ".tmp-9012", "half");
  EXPECT_THAT(keys(young, "data"), UnorderedElementsAre("data/e/x"));
  young.remove_unfinished("data");
  EXPECT_EQ(files_below(folder.path()).size(), 4U);
  old.remove_unfinished("data");
  EXPECT_EQ(files_below(folder.path()).size(), 2U);
  old.remove_unfinished("");
  EXPECT_EQ(files_below(folder.path()).size(), 1U);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "data/f"));
}

TEST(PosixStorage, ManyMakeTheSameFoldersWhileOthersRemoveThem) {
  TemporaryFolder folder;
  PosixStorage storage(folder.path());
  for (int round = 0; round < 300; ++round) {
    const std::string name = "data/" + std::to_string(round);
    std::latch start(4);
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&, i] {
        start.arrive_and_wait();
        if (i == 0)
          storage.remove_all(name + "/of-nobody");  // takes the parents along where they are empty
        else
          EXPECT_NO_THROW((void)create(storage, name + "/a/" + std::to_string(i), "x"));
      });
  }
}

TEST(PosixStorage, EndsWithAnErrorWhereNoFolderCanBeMade) {
  PosixStorage storage(
      "/proc/ddp-test/checkpoints");  // mkdir answers ENOENT there although the parent exists
  EXPECT_THROW((void)create(storage, "log/000000000001", "text"), StorageError);
}

TEST(OpenStorage, TakesPathsAndFileUrls) {
  TemporaryFolder folder;
  const std::string path = folder.path().string();
  for (const std::string& location : {path + "/with%20space", "file://" + path + "/with%2520space",
                                      "file://localhost" + path + "/with%2520space/"}) {
    const auto storage = open_storage(location);
    EXPECT_EQ(storage->describe(), path + "/with%20space") << location;
    EXPECT_NE(create(*storage, "x", "y"), Created::kUnknown);
  }
}

TEST(OpenStorage, OtherLocationsAreConfigErrorsThatSayWhatIsSupported) {
  for (const char* location : {"", "s3://bucket/run", "gs://bucket", "file://host/path", "file://relative",
                               "file:///a%zz", "file:///a%00b", "://x"}) {
    try {
      (void)open_storage(location);
      FAIL() << location;
    } catch (const ConfigError& e) {
      EXPECT_THAT(e.what(), HasSubstr("file:///")) << location;
    }
  }
}

}  // namespace
}  // namespace ddp::checkpoint
