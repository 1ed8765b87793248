// What ranks that are threads of one process can show.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>

#include "tests/comm/thread_ranks.h"

namespace ddp {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Layout;
using testing::run_ranks;
using ::testing::StartsWith;

class HostCommunicator : public ::testing::TestWithParam<std::vector<int>> {
 protected:
  [[nodiscard]] Layout layout() const { return {.hosts = GetParam()}; }
  [[nodiscard]] int ranks() const { return layout().world_size(); }
  void run(const std::function<void(Communicator&)>& body) const {
    EXPECT_THAT(run_ranks(layout(), body), Each(IsEmpty()));
  }
};

INSTANTIATE_TEST_SUITE_P(Layouts, HostCommunicator, ::testing::ValuesIn(testing::several_ranks()),
                         [](const auto& info) { return Layout{.hosts = info.param}.name(); });

TEST_P(HostCommunicator, GivesTheSameBitsOnEveryRankAndInEveryRun) {
  std::vector<std::vector<float>> results(static_cast<std::size_t>(ranks()) * 2);
  for (std::size_t repeat = 0; repeat < 2; ++repeat)
    run([&](Communicator& comm) {
      std::vector<float> values(50'021);
      for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = 1.0f / static_cast<float>(i + 1 + static_cast<std::size_t>(comm.rank()) * 977);
      comm.all_reduce({values.data(), values.size(), DType::kFloat32}, {.op = ReduceOp::kMean});
      results[repeat * static_cast<std::size_t>(ranks()) + static_cast<std::size_t>(comm.rank())] = values;
    });
  EXPECT_THAT(results, Each(results[0]));
}

TEST_P(HostCommunicator, TimesOutNamingTheRankThatDidNotCome) {
  std::atomic<int> ended{0};
  const auto errors = run_ranks(layout(), [&](Communicator& comm) {
    if (comm.rank() == 1) {  // alive, in no operation, until all others have given up
      while (ended.load() < comm.size() - 1) std::this_thread::yield();
      return;
    }
    try {
      comm.barrier({.timeout = std::chrono::milliseconds(300)});
    } catch (...) {
      ++ended;
      throw;
    }
    ++ended;
  });
  EXPECT_THAT(errors[0], AllOf(HasSubstr("rank 1"), HasSubstr("barrier #1"), HasSubstr("300 ms")));
  EXPECT_THAT(errors[0], StartsWith("TimeoutError"));
}

TEST_P(HostCommunicator, AbortFromAnotherThreadEndsTheWaitOfEveryRank) {
  std::atomic<int> waiting{0};
  const auto errors = run_ranks(layout(), [&](Communicator& comm) {
    comm.barrier();
    std::thread aborter;
    if (comm.rank() == 1) {
      aborter = std::thread([&] {
        while (waiting.load() < comm.size() - 1) std::this_thread::yield();
        comm.abort("told to");
      });
      aborter.join();
      comm.barrier();
    } else {
      ++waiting;
      comm.barrier();
    }
  });
  EXPECT_THAT(errors, Each(AllOf(StartsWith("Aborted"), HasSubstr("rank 1"), HasSubstr("told to"))));
}

TEST(HostCommunicatorWaits, ADeadRankIsNoticedWhileAnotherOneIsStillBusy) {
  std::promise<void> noticed;
  const auto busy_until = noticed.get_future();
  auto errors = run_ranks({.hosts = {3}}, [&](Communicator& comm) {
    comm.barrier();
    if (comm.rank() == 2) return;
    if (comm.rank() == 1 && busy_until.wait_for(std::chrono::seconds(60)) != std::future_status::ready)
      throw Error("rank 0 has not noticed that rank 2 left");
    try {
      comm.barrier();
    } catch (const PeerFailure&) {
      if (comm.rank() == 0) noticed.set_value();
      throw;
    }
  });
  EXPECT_THAT(errors[0], AllOf(StartsWith("PeerFailure"), HasSubstr("rank 2"), HasSubstr("barrier #2")));
  EXPECT_THAT(errors[1], StartsWith("PeerFailure"));
}

}  // namespace
}  // namespace ddp
