// Ranks that are killed or stopped while they share memory with others. The victim is a forked process, the survivors
// are threads.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
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

/// `before_reducing`: what the victim does once it has its communicator.
Outcome after_signal(const Row& row, int number, std::chrono::nanoseconds timeout,
                     const std::function<void(std::shared_ptr<Communicator>&)>& before_reducing = {}) {
  const Layout layout{row.hosts, timeout};
  const int ranks = layout.world_size();
  const auto store = std::make_shared<MemoryStore>();
  const ForkedRank victim(*store, [&](const std::shared_ptr<Store>& pipe) {
    auto options = options_of(layout, row.victim);
    options.timeout = std::chrono::seconds(60);
    auto communicator = make_host_communicator(options, pipe);
    if (before_reducing) before_reducing(communicator);
    reduce_for_ever(*communicator, row.resident, [] {});
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

TEST_P(VictimTest, ThatIsKilledIsNoticedThoughAChildOfItLivesOn) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  FileDescriptor child_ends(ends[0]), keep(ends[1]);
  const Outcome outcome = after_signal(GetParam(), SIGKILL, std::chrono::seconds(60),
                                       [&](std::shared_ptr<Communicator>& /*communicator*/) {
                                         if (::fork() != 0) return;
                                         ::signal(SIGPIPE, SIG_DFL);
                                         keep.reset();
                                         char end = 0;
                                         (void)!::read(child_ends.get(), &end, 1);  // until the test ends
                                         ::_exit(0);
                                       });
  EXPECT_THAT(outcome.errors, Each(AllOf(StartsWith("PeerFailure: "), HasSubstr("all_reduce #"))));
  EXPECT_LT(outcome.took, std::chrono::seconds(30));
}

TEST_P(VictimTest, MayHaveChildrenThatEndAndCannotUseItsCommunicator) {
  const Mapping shared(
      ::mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), sizeof(int));
  int& status = *reinterpret_cast<int*>(shared.data());
  status = -1;
  const Outcome outcome = after_signal(
      GetParam(), SIGKILL, std::chrono::seconds(60), [&](std::shared_ptr<Communicator>& communicator) {
        const pid_t child = ::fork();
        if (child != 0) {
          (void)::waitpid(child, &status, 0);
          return;
        }
        ::alarm(20);
        std::string said;
        try {
          communicator->barrier();
        } catch (const Error& error) {
          said = error.what();
        }
        communicator.reset();  // as a return from main would: neither hangs nor tells other ranks anything
        ::_exit(said.find("was forked from that rank") == std::string::npos ? 1 : 0);
      });
  EXPECT_EQ(status, 0);
  EXPECT_THAT(outcome.errors, Each(AllOf(StartsWith("PeerFailure: "), HasSubstr("all_reduce #"))));
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
