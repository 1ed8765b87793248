// Ranks that are killed or stopped while they share memory with others. The victim is a forked process, the survivors
// are threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <latch>
#include <mutex>
#include <set>

#include "tests/comm/forked_rank.h"
#include "tests/comm/thread_ranks.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::size_t kCount = 200'000;

/// All-reduces without end; throws what ends it.
void reduce_for_ever(Communicator& communicator, bool resident, const std::function<void()>& after_third) {
  std::vector<float> ordinary(kCount);
  const Allocation allocation = communicator.allocate(kCount * sizeof(float));
  void* const data = resident ? allocation.data() : ordinary.data();
  for (int i = 1;; ++i) {
    communicator.all_reduce({data, kCount, DType::kFloat32}, {.op = ReduceOp::kMax});
    if (i == 3) after_third();
  }
}

struct Outcome {
  std::vector<std::string> errors;  ///< of the survivors
  std::chrono::nanoseconds took{};
};

struct Row {
  std::vector<int> hosts;
  int victim;
  bool resident;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << Layout{row.hosts}.name() << ", victim " << row.victim;
}

Outcome after_signal(const Row& row, int number, std::chrono::nanoseconds timeout) {
  const Layout layout{row.hosts, timeout};
  const int ranks = layout.world_size();
  const auto store = std::make_shared<MemoryStore>();
  const ForkedRank victim(*store, [&](const std::shared_ptr<Store>& pipe) {
    auto options = options_of(layout, row.victim);
    options.timeout = std::chrono::seconds(60);
    reduce_for_ever(*make_host_communicator(options, pipe), row.resident, [] {});
  });
  std::latch third(ranks - 1);
  Outcome outcome;
  std::mutex mutex;
  std::vector<std::thread> survivors;
  for (int rank = 0; rank < ranks; ++rank) {
    if (rank == row.victim) continue;
    survivors.emplace_back([&, rank] {
      bool counted = false;
      try {
        const auto communicator = make_host_communicator(options_of(layout, rank), store);
        reduce_for_ever(*communicator, row.resident, [&] {
          counted = true;
          third.count_down();
        });
      } catch (const Error& error) {
        const std::scoped_lock lock(mutex);
        outcome.errors.push_back(std::string(to_string(error.kind())) + ": " + error.what());
      }
      if (!counted) third.count_down();
    });
  }
  third.wait();
  const auto begin = Clock::now();
  victim.signal(number);
  for (auto& survivor : survivors) survivor.join();
  outcome.took = Clock::now() - begin;
  return outcome;
}

std::set<std::string> shared_memory_files() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm"))
    if (entry.path().filename().string().starts_with("ddp")) names.insert(entry.path().filename());
  return names;
}

std::string row_name(const ::testing::TestParamInfo<Row>& info) {
  return Layout{info.param.hosts}.name() + "_victim_" + std::to_string(info.param.victim) +
         (info.param.resident ? "_resident" : "_ordinary");
}

class VictimTest : public ::testing::TestWithParam<Row> {};

TEST_P(VictimTest, ThatIsKilledIsAPeerFailureOnAllOthersAtOnceAndLeavesNothing) {
  const auto before = shared_memory_files();
  const Outcome outcome = after_signal(GetParam(), SIGKILL, std::chrono::minutes(10));
  const std::string rank = "rank " + std::to_string(GetParam().victim) + " (host-";
  EXPECT_THAT(outcome.errors, Each(AllOf(StartsWith("PeerFailure: "), HasSubstr(rank),
                                         HasSubstr("all_reduce #"), HasSubstr("float32 x 200000"))));
  EXPECT_LT(outcome.took, std::chrono::seconds(30));
  EXPECT_EQ(shared_memory_files(), before);
}

TEST_P(VictimTest, ThatIsStoppedIsATimeoutThatNamesItOnAllOthers) {
  const Outcome outcome = after_signal(GetParam(), SIGSTOP, std::chrono::seconds(3));
  const std::string rank = "rank " + std::to_string(GetParam().victim) + " (host-";
  EXPECT_THAT(outcome.errors,
              Each(AllOf(StartsWith("TimeoutError: "), HasSubstr(rank), HasSubstr("all_reduce #"))));
  EXPECT_GE(outcome.took, std::chrono::milliseconds(2500));
  EXPECT_LT(outcome.took, std::chrono::seconds(60));
}

INSTANTIATE_TEST_SUITE_P(Rows, VictimTest,
                         ::testing::Values(Row{{2}, 1, true}, Row{{2}, 0, false}, Row{{3}, 0, true},
                                           Row{{3}, 2, false}, Row{{2, 2}, 0, true}, Row{{2, 2}, 3, false},
                                           Row{{1, 2}, 1, true}),
                         row_name);

}  // namespace
}  // namespace ddp::testing
