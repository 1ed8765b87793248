// What ranks that talk TCP are told when something goes wrong: every rank gets an error, and soon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>

#include "tests/comm/tcp_ranks.h"

namespace ddp::testing {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

Operation all_reduce(std::vector<float>& data, std::uint64_t sequence) {
  Operation result = operation(OpKind::kAllReduce, sequence);
  result.dtype = DType::kFloat32;
  result.count = data.size();
  result.input = result.output = data.data();
  return result;
}

TEST(TcpMismatch, ShowsBothSidesOnEveryRank) {
  const auto errors = run_tcp_ranks({.ranks = 3}, [](TcpRank& self) {
    self.run(operation(OpKind::kBarrier, 16));
    std::vector<float> data(100);
    Operation o = all_reduce(data, 17);
    if (self.rank == 0) {
      o.kind = OpKind::kBroadcast;
      o.root = 1;
    }
    self.run(o);
  });
  EXPECT_THAT(errors, Each(StartsWith("MismatchError: ")));
  EXPECT_THAT(errors, Each(HasSubstr("broadcast #17 (float32 x 100, root 1)")));
  EXPECT_THAT(errors, Each(HasSubstr("all_reduce #17 (float32 x 100, sum)")));
  EXPECT_THAT(errors, Each(HasSubstr("rank 0 (host-a")));
}

/// Rank 1 of 3 calls the same all_reduce after `change`.
std::vector<std::string> errors_after(std::size_t count, const std::function<void(Operation&)>& change) {
  return run_tcp_ranks({.ranks = 3}, [&](TcpRank& self) {
    std::vector<float> data(2 * count);
    Operation o = all_reduce(data, 5);
    o.count = count;
    if (self.rank == 1) change(o);
    self.run(o);
    self.run(operation(OpKind::kBarrier, 6));
  });
}

TEST(TcpMismatch, IsFoundForEveryFieldOfAnOperation) {
  const auto mismatch = Each(StartsWith("MismatchError: "));
  for (const std::size_t count : {std::size_t{10}, std::size_t{50'000}}) {
    EXPECT_THAT(errors_after(count, [](Operation& o) { o.dtype = DType::kInt32; }), mismatch);
    EXPECT_THAT(errors_after(count, [](Operation& o) { o.op = ReduceOp::kMax; }), mismatch);
    EXPECT_THAT(errors_after(count, [](Operation& o) { o.count -= 1; }), mismatch);
    EXPECT_THAT(errors_after(count, [](Operation& o) { o.count *= 2; }), mismatch);
    EXPECT_THAT(errors_after(count, [](Operation& o) { o.tag = 1; }), mismatch);
    EXPECT_THAT(errors_after(count, [](Operation& o) { o.sequence = 6; }), mismatch);
    EXPECT_THAT(errors_after(count, [](Operation& o) { o.kind = OpKind::kBarrier; }), mismatch);
    EXPECT_THAT(errors_after(count, [](Operation&) {}), Each(IsEmpty()));
  }
}

TEST(TcpMismatch, IsFoundBetweenSmallAndLargeCounts) {
  EXPECT_THAT(errors_after(100, [](Operation& o) { o.count = 200; }), Each(StartsWith("MismatchError: ")));
  EXPECT_THAT(errors_after(4000, [](Operation& o) { o.count = 8000; }), Each(StartsWith("MismatchError: ")));
}

TEST(TcpMismatch, IsFoundWhenTheCountsOfAllGatherDiffer) {
  const auto errors = run_tcp_ranks({.ranks = 2}, [](TcpRank& self) {
    std::vector<float> input(3);
    std::vector<float> output(10);
    Operation o = operation(OpKind::kAllGatherV, 1);
    o.dtype = DType::kFloat32;
    o.input = input.data();
    o.output = output.data();
    o.count = 3;
    o.counts = self.rank == 0 ? std::vector<std::size_t>{3, 4} : std::vector<std::size_t>{2, 3};
    self.run(o);
  });
  EXPECT_THAT(errors, Each(AllOf(StartsWith("MismatchError: "), HasSubstr("counts"))));
}

TEST(TcpMessages, ThatNobodyReceivesAreATimeoutThatNamesWhoDoesNot) {
  const auto errors = run_tcp_ranks({.ranks = 2}, [](TcpRank& self) {
    std::vector<float> data(50'000'000);
    Operation o = all_reduce(data, 1);
    o.kind = OpKind::kSend;
    o.peer = 1 - self.rank;
    o.deadline = Deadline::in(std::chrono::milliseconds(500));
    self.run(o);
  });
  EXPECT_THAT(errors,
              Each(AllOf(StartsWith("TimeoutError: "), HasSubstr("send #1"), HasSubstr("to receive it"))));
}

TEST(TcpMessages, OfARankThatLeftAreAPeerFailure) {
  const auto errors = run_tcp_ranks({.ranks = 2}, [](TcpRank& self) {
    std::vector<float> data(5);
    Operation o = all_reduce(data, 1);
    o.kind = OpKind::kRecv;
    o.peer = 1;
    if (self.rank == 0) self.run(o);
  });
  EXPECT_THAT(errors[0],
              AllOf(StartsWith("PeerFailure: "), HasSubstr("rank 1 (host-b"), HasSubstr("recv #1")));
}

TEST(TcpFail, EndsTheWaitOfThisRankAndOfAllOthersAtOnce) {
  std::latch waiting(3);
  const auto begin = Clock::now();
  const auto errors = run_tcp_ranks({.ranks = 3}, [&](TcpRank& self) {
    self.run(operation(OpKind::kBarrier, 1));
    std::thread aborter;
    if (self.rank == 0)
      aborter = std::thread([&] {
        waiting.wait();
        self.group->fail(ErrorKind::kAborted, "the user pressed stop");
      });
    waiting.count_down();
    try {
      // Rank 2 does not come; rank 0 is aborted from another thread.
      if (self.rank == 2) waiting.wait();
      for (std::uint64_t s = 2; self.rank != 2; ++s) self.run(operation(OpKind::kBarrier, s));
      while (!self.failure.recorded()) self.group->poll_failures();
    } catch (...) {
      if (aborter.joinable()) aborter.join();
      throw;
    }
  });
  EXPECT_THAT(errors, Each(::testing::Eq("Aborted: the user pressed stop")));
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(10));
}

TEST(TcpFail, IsThrownAgainByEveryLaterCall) {
  const auto errors = run_tcp_ranks({.ranks = 2}, [](TcpRank& self) {
    self.group->fail(ErrorKind::kError, "first");
    self.group->fail(ErrorKind::kError, "second");
    for (int i = 0; i < 2; ++i) EXPECT_THROW(self.run(operation(OpKind::kBarrier, 1)), Error);
    EXPECT_THROW(self.group->poll_failures(), Error);
    self.run(operation(OpKind::kBarrier, 1));
  });
  EXPECT_THAT(errors, Each(::testing::Eq("Error: first")));
}

TEST(TcpCheck, WhatItThrowsEndsTheOperationOnAllRanks) {
  const auto errors = run_tcp_ranks({.ranks = 2}, [](TcpRank& self) {
    if (self.rank == 1) {
      while (!self.failure.recorded()) self.group->poll_failures();
      return;
    }
    int calls = 0;
    self.group->run(operation(OpKind::kBarrier, 1), [&] {
      if (++calls == 3) throw PeerFailure("a local rank died");
    });
  });
  EXPECT_THAT(errors, Each(::testing::Eq("PeerFailure: a local rank died")));
}

TEST(TcpDeadline, NamesTheRankThatDidNotComeOnEveryRank) {
  std::latch done(3);
  const auto errors = run_tcp_ranks({.ranks = 4}, [&](TcpRank& self) {
    if (self.rank == 2) {
      done.wait();
      return self.group->poll_failures();
    }
    std::vector<float> data(100'000);
    Operation o = all_reduce(data, 9);
    o.deadline = Deadline::in(std::chrono::milliseconds(600));
    try {
      self.run(o);
    } catch (...) {
      done.count_down();
      throw;
    }
  });
  EXPECT_THAT(errors, Each(StartsWith("TimeoutError: timed out after 600 ms")));
  EXPECT_THAT(errors, Each(HasSubstr("all_reduce #9 (float32 x 100000, sum)")));
  EXPECT_THAT(errors, Each(HasSubstr("rank 2 (host-c")));
}

TEST(TcpGoodbye, LetsOthersFinishWhatNeedsThisRankNoMore) {
  const auto errors = run_tcp_ranks({.ranks = 3}, [](TcpRank& self) {
    std::vector<float> data(300'000, 1.0f);
    self.run(all_reduce(data, 1));
    EXPECT_EQ(data.front(), 3.0f);
    EXPECT_EQ(data.back(), 3.0f);
    if (self.rank == 2) return;
    Operation pair = all_reduce(data, 1);
    pair.kind = self.rank == 0 ? OpKind::kSend : OpKind::kRecv;
    pair.peer = 1 - self.rank;
    self.run(pair);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(TcpGoodbye, IsAPeerFailureForWhoNeedsTheRank) {
  const auto errors = run_tcp_ranks({.ranks = 3}, [](TcpRank& self) {
    self.run(operation(OpKind::kBarrier, 1));
    if (self.rank == 1) return;
    self.run(operation(OpKind::kBarrier, 2));
  });
  EXPECT_THAT(errors[1], IsEmpty());
  for (const int rank : {0, 2})
    EXPECT_THAT(errors[static_cast<std::size_t>(rank)],
                AllOf(StartsWith("PeerFailure: "), HasSubstr("rank 1 (host-b"), HasSubstr("barrier #2"),
                      HasSubstr("left")));
}

}  // namespace
}  // namespace ddp::testing
