// Ranks that are killed or stopped in the middle of an operation. The victim is a forked process, the
// survivors are threads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>

#include "tests/comm/forked_rank.h"
#include "tests/comm/tcp_ranks.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::size_t kCount = 200'000;

/// All-reduces without end; throws what ends it.
void reduce_for_ever(TcpRank& self, std::chrono::milliseconds timeout,
                     const std::function<void()>& after_third) {
  std::vector<float> data(kCount);
  for (std::uint64_t sequence = 1;; ++sequence) {
    Operation o = operation(OpKind::kAllReduce, sequence);
    o.dtype = DType::kFloat32;
    o.count = data.size();
    o.input = o.output = data.data();
    o.deadline = Deadline::in(timeout);
    self.run(o);
    if (sequence == 3) after_third();
  }
}

struct Outcome {
  std::vector<std::string> errors;
  std::chrono::nanoseconds took{};
};

/// Rank 2 of 3 gets `number` while all three reduce; what the other two are told, and how soon.
Outcome after_signal(int number, std::chrono::milliseconds timeout) {
  const TcpLayout layout{.ranks = 3};
  MemoryStore store;
  const ForkedRank victim(store, [&](const std::shared_ptr<Store>& pipe) {
    TcpRank self{2, layout.ranks, {}, {}};
    self.group = host::TcpGroup::connect(tcp_options(layout, 2), *pipe, self.failure,
                                         Deadline::in(std::chrono::seconds(30)));
    reduce_for_ever(self, std::chrono::seconds(30), [] {});
  });
  std::latch third(2);
  Outcome outcome{std::vector<std::string>(2), {}};
  std::vector<std::thread> survivors;
  for (int rank = 0; rank < 2; ++rank)
    survivors.emplace_back([&, rank] {
      TcpRank self{rank, layout.ranks, {}, {}};
      bool counted = false;
      try {
        self.group = host::TcpGroup::connect(tcp_options(layout, rank), store, self.failure,
                                             Deadline::in(std::chrono::seconds(30)));
        reduce_for_ever(self, timeout, [&] {
          counted = true;
          third.count_down();
        });
      } catch (const std::exception& error) {
        outcome.errors[static_cast<std::size_t>(rank)] = describe_error(error);
        if (!counted) third.count_down();
      }
    });
  third.wait();
  const auto begin = Clock::now();
  victim.signal(number);
  for (auto& survivor : survivors) survivor.join();
  outcome.took = Clock::now() - begin;
  return outcome;
}

TEST(TcpKilledRank, IsAPeerFailureOnAllOthersAtOnce) {
  const Outcome outcome = after_signal(SIGKILL, std::chrono::minutes(10));
  EXPECT_THAT(outcome.errors, Each(AllOf(StartsWith("PeerFailure: "), HasSubstr("lost rank 2 (host-c"),
                                         HasSubstr("all_reduce #"), HasSubstr("float32 x 200000"))));
  EXPECT_LT(outcome.took, std::chrono::seconds(10));
}

TEST(TcpStoppedRank, IsATimeoutThatNamesItOnAllOthers) {
  const Outcome outcome = after_signal(SIGSTOP, std::chrono::seconds(2));
  EXPECT_THAT(outcome.errors, Each(AllOf(StartsWith("TimeoutError: timed out after 2 s"),
                                         HasSubstr("waits for rank 2 (host-c"), HasSubstr("all_reduce #"))));
  EXPECT_GE(outcome.took, std::chrono::milliseconds(1900));
  EXPECT_LT(outcome.took, std::chrono::seconds(12));
}

}  // namespace
}  // namespace ddp::testing
