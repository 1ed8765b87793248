// Every operation over TCP, against what a plain loop computes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "tests/comm/tcp_ranks.h"
#include "tests/comm/values.h"

namespace ddp::testing {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;

// Nothing, less than a rank each, inside a frame, several chunks on several streams with a ragged end.
constexpr std::size_t kCounts[] = {0, 1, 1000, 70'001};

struct Case {
  int ranks;
  DType dtype;
  std::size_t count;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const int ranks : {2, 3, 4})
    for (const DType dtype : kAllTypes)
      for (const std::size_t count : kCounts) cases.push_back({ranks, dtype, count});
  return cases;
}

/// Small whole numbers, so that every dtype and every order of summation is exact.
double element(int rank, std::size_t i) {
  return static_cast<double>((i * 7 + static_cast<std::size_t>(rank)) % 2);
}

void fill(Values& values, int rank) {
  for (std::size_t i = 0; i < values.size(); ++i) values.set(i, element(rank, i));
}

double reduced(int ranks, std::size_t i, DType dtype, ReduceOp op) {
  double result = element(0, i);
  for (int rank = 1; rank < ranks; ++rank) {
    const double next = element(rank, i);
    if (op == ReduceOp::kMin)
      result = std::min(result, next);
    else if (op == ReduceOp::kMax)
      result = std::max(result, next);
    else if (op == ReduceOp::kProduct)
      result *= next;
    else
      result += next;
  }
  if (dtype == DType::kBool) return result != 0;
  return op == ReduceOp::kMean ? result / ranks : result;
}

/// Compares all elements, reports the first that differs.
template <class Expected>
void expect_values(const Values& got, Expected expected, const std::string& what, double tolerance = 0) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double wanted = expected(i);
    if (std::abs(got[i] - wanted) <= tolerance) continue;
    ADD_FAILURE() << what << " element " << i << " is " << got[i] << ", expected " << wanted;
    return;
  }
}

Operation with(OpKind kind, DType dtype, std::size_t count, const Values* input, Values* output,
               std::uint64_t sequence) {
  Operation result = operation(kind, sequence);
  result.dtype = dtype;
  result.count = count;
  if (input) result.input = ConstBuffer(*input).data;
  if (output) result.output = Buffer(*output).data;
  return result;
}

std::string name_of(const Case& c, const char* kind) {
  return std::string(kind) + " " + to_string(c.dtype) + " x " + std::to_string(c.count) + " on " +
         std::to_string(c.ranks) + " ranks";
}

/// Runs all cases of one rank count over one group.
void for_all_cases(int ranks,
                   const std::function<void(TcpRank&, const Case&, std::uint64_t sequence)>& body) {
  const auto errors = run_tcp_ranks({.ranks = ranks, .streams = 5 - ranks}, [&](TcpRank& self) {
    std::uint64_t sequence = 0;
    for (const Case& c : all_cases())
      if (c.ranks == ranks) body(self, c, sequence += 10);
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

class TcpCollectives : public ::testing::TestWithParam<int> {};

TEST_P(TcpCollectives, AllReduceGivesEveryRankTheReductionOfAllInputs) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    for (const ReduceOp op :
         {ReduceOp::kSum, ReduceOp::kMean, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kProduct}) {
      if (!supports(c.dtype, op)) continue;
      Values values(c.dtype, c.count);
      fill(values, self.rank);
      Operation o = with(OpKind::kAllReduce, c.dtype, c.count, &values, &values, ++sequence);
      o.op = op;
      self.run(o);
      expect_values(
          values, [&](std::size_t i) { return reduced(self.size, i, c.dtype, op); },
          name_of(c, "all_reduce") + " " + to_string(op), op == ReduceOp::kMean ? 0.01 : 0);
    }
  });
}

TEST_P(TcpCollectives, ReduceGivesTheRootTheResultAndLeavesTheOthersInputs) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMean}) {
      if (!supports(c.dtype, op)) continue;
      Values values(c.dtype, c.count);
      fill(values, self.rank);
      Operation o = with(OpKind::kReduce, c.dtype, c.count, &values, &values, ++sequence);
      o.op = op;
      o.root = static_cast<int>(sequence) % self.size;
      self.run(o);
      expect_values(
          values,
          [&](std::size_t i) {
            return self.rank == o.root ? reduced(self.size, i, c.dtype, op) : element(self.rank, i);
          },
          name_of(c, "reduce"), op == ReduceOp::kMean ? 0.01 : 0);
    }
  });
}

TEST_P(TcpCollectives, BroadcastGivesEveryRankTheRootsBuffer) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    for (int root = 0; root < self.size; ++root) {
      Values values(c.dtype, c.count);
      fill(values, self.rank);
      Operation o = with(OpKind::kBroadcast, c.dtype, c.count, &values, &values, ++sequence);
      o.root = root;
      self.run(o);
      expect_values(
          values, [&](std::size_t i) { return element(root, i); }, name_of(c, "broadcast"));
    }
  });
}

TEST_P(TcpCollectives, AllGatherLaysAllInputsEndToEnd) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    Values input(c.dtype, c.count);
    fill(input, self.rank);
    Values output(c.dtype, c.count * static_cast<std::size_t>(self.size));
    self.run(with(OpKind::kAllGather, c.dtype, c.count, &input, &output, sequence));
    expect_values(
        output, [&](std::size_t i) { return element(static_cast<int>(i / c.count), i % c.count); },
        name_of(c, "all_gather"));
  });
}

TEST_P(TcpCollectives, AllGatherTakesSharesOfDifferentSizes) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    std::vector<std::size_t> counts;
    std::vector<double> expected;
    for (int rank = 0; rank < self.size; ++rank) {
      counts.push_back(rank == 1 ? 0 : c.count / static_cast<std::size_t>(rank + 1));
      for (std::size_t i = 0; i < counts.back(); ++i) expected.push_back(element(rank, i));
    }
    const std::size_t mine = counts[static_cast<std::size_t>(self.rank)];
    Values input(c.dtype, mine);
    fill(input, self.rank);
    Values output(c.dtype, expected.size());
    Operation o = with(OpKind::kAllGatherV, c.dtype, mine, &input, &output, sequence);
    o.counts = counts;
    self.run(o);
    expect_values(
        output, [&](std::size_t i) { return expected[i]; }, name_of(c, "all_gatherv"));
  });
}

TEST_P(TcpCollectives, ReduceScatterGivesEachRankItsShareAndLeavesTheInput) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMean}) {
      if (!supports(c.dtype, op)) continue;
      Values input(c.dtype, c.count * static_cast<std::size_t>(self.size));
      fill(input, self.rank);
      Values output(c.dtype, c.count);
      Operation o = with(OpKind::kReduceScatter, c.dtype, c.count, &input, &output, ++sequence);
      o.op = op;
      self.run(o);
      const std::size_t begin = c.count * static_cast<std::size_t>(self.rank);
      expect_values(
          output, [&](std::size_t i) { return reduced(self.size, begin + i, c.dtype, op); },
          name_of(c, "reduce_scatter"), op == ReduceOp::kMean ? 0.01 : 0);
      expect_values(
          input, [&](std::size_t i) { return element(self.rank, i); }, "the input");
    }
  });
}

TEST_P(TcpCollectives, AllToAllTransposes) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    const auto size = static_cast<std::size_t>(self.size);
    Values input(c.dtype, c.count * size);
    fill(input, self.rank);
    Values output(c.dtype, c.count * size);
    self.run(with(OpKind::kAllToAll, c.dtype, c.count, &input, &output, sequence));
    expect_values(
        output,
        [&](std::size_t i) {
          return element(static_cast<int>(i / c.count),
                         static_cast<std::size_t>(self.rank) * c.count + i % c.count);
        },
        name_of(c, "all_to_all"));
  });
}

TEST_P(TcpCollectives, GatherAndScatterAreInverse) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    for (int root = 0; root < self.size; ++root) {
      const bool here = self.rank == root;
      Values share(c.dtype, c.count);
      fill(share, self.rank);
      Values all(c.dtype, here ? c.count * static_cast<std::size_t>(self.size) : 0);
      Operation o = with(OpKind::kGather, c.dtype, c.count, &share, here ? &all : nullptr, ++sequence);
      o.root = root;
      self.run(o);
      expect_values(
          all, [&](std::size_t i) { return element(static_cast<int>(i / c.count), i % c.count); },
          name_of(c, "gather"));
      Values back(c.dtype, c.count);
      o = with(OpKind::kScatter, c.dtype, c.count, here ? &all : nullptr, &back, ++sequence);
      o.root = root;
      self.run(o);
      expect_values(
          back, [&](std::size_t i) { return element(self.rank, i); }, name_of(c, "scatter"));
    }
  });
}

TEST_P(TcpCollectives, SendAndRecvPassABufferRoundTheRing) {
  for_all_cases(GetParam(), [](TcpRank& self, const Case& c, std::uint64_t sequence) {
    Values out(c.dtype, c.count);
    fill(out, self.rank);
    Values in(c.dtype, c.count);
    Operation send = with(OpKind::kSend, c.dtype, c.count, &out, nullptr, sequence);
    send.peer = (self.rank + 1) % self.size;
    Operation recv = with(OpKind::kRecv, c.dtype, c.count, nullptr, &in, sequence);
    recv.peer = (self.rank + self.size - 1) % self.size;
    self.run(self.rank == 0 ? send : recv);
    self.run(self.rank == 0 ? recv : send);
    expect_values(
        in, [&](std::size_t i) { return element(recv.peer, i); }, name_of(c, "recv"));
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, TcpCollectives, ::testing::Values(2, 3, 4));

TEST(TcpSums, AreBitwiseTheSameOnAllRanksAndInEveryRun) {
  constexpr std::size_t kCount = 50'000;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32}) {
    std::vector<std::vector<double>> results;
    std::mutex mutex;
    const auto body = [&](TcpRank& self) {
      Values values(dtype, kCount);
      for (std::size_t i = 0; i < kCount; ++i)
        values.set(i, std::sin(static_cast<double>(i) + self.rank * 1000.5));
      Operation o = with(OpKind::kAllReduce, dtype, kCount, &values, &values, 1);
      o.op = ReduceOp::kMean;
      self.run(o);
      std::vector<double> result;
      for (std::size_t i = 0; i < kCount; ++i) result.push_back(values[i]);
      const std::scoped_lock lock(mutex);
      results.push_back(std::move(result));
    };
    EXPECT_THAT(run_tcp_ranks({.ranks = 4}, body), Each(IsEmpty()));
    EXPECT_THAT(run_tcp_ranks({.ranks = 4}, body), Each(IsEmpty()));
    ASSERT_EQ(results.size(), 8u);
    for (const auto& result : results) EXPECT_TRUE(result == results.front()) << to_string(dtype);
  }
}

TEST(TcpSums, OfSixteenBitFloatsAreRoundedOnce) {
  // 2048 + 1 + 1 + 1 is 2051; fp16 holds 2048 and 2052 only, and adding the ones singly would stay at 2048.
  constexpr std::size_t kCount = 40'000;
  const auto errors = run_tcp_ranks({.ranks = 4}, [](TcpRank& self) {
    std::uint64_t sequence = 0;
    for (const std::size_t count : {std::size_t{100}, kCount})
      for (int big = 0; big < self.size; ++big) {
        Values values(DType::kFloat16, count);
        for (std::size_t i = 0; i < count; ++i) values.set(i, self.rank == big ? 2048 : 1);
        self.run(with(OpKind::kAllReduce, DType::kFloat16, count, &values, &values, ++sequence));
        expect_values(
            values, [](std::size_t) { return 2052.0; }, "sum");
      }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(TcpAllReduceAmong, RunsInDisjointSetsOfRanksAtTheSameTime) {
  const auto errors = run_tcp_ranks({.ranks = 4}, [](TcpRank& self) {
    const std::vector<int> lane = self.rank % 2 == 0 ? std::vector{0, 2} : std::vector{1, 3};
    std::uint64_t sequence = 0;
    for (const std::size_t count : {std::size_t{0}, std::size_t{10}, std::size_t{60'000}}) {
      Values values(DType::kFloat32, count);
      fill(values, self.rank);
      const Operation of = with(OpKind::kAllReduce, DType::kFloat32, 2 * count, &values, &values, ++sequence);
      self.group->all_reduce_among(lane, Buffer(values).data, count, DType::kFloat32, ReduceOp::kSum, of,
                                   [] {});
      expect_values(
          values, [&](std::size_t i) { return element(lane[0], i) + element(lane[1], i); }, "lane");
      self.run(operation(OpKind::kBarrier, ++sequence));
    }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(TcpGroupOfOne, CopiesInputToOutput) {
  const auto errors = run_tcp_ranks({.ranks = 1}, [](TcpRank& self) {
    Values input(DType::kInt32, 5);
    fill(input, 3);
    Values output(DType::kInt32, 5);
    self.run(with(OpKind::kAllGather, DType::kInt32, 5, &input, &output, 1));
    expect_values(
        output, [](std::size_t i) { return element(3, i); }, "all_gather");
    self.run(operation(OpKind::kBarrier, 2));
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(TcpGroup, WorksOverIpv6) {
  const auto errors = run_tcp_ranks({.ranks = 2, .streams = 2, .bind_address = "::1"}, [](TcpRank& self) {
    Values values(DType::kFloat32, 100'000);
    fill(values, self.rank);
    self.run(with(OpKind::kAllReduce, DType::kFloat32, 100'000, &values, &values, 1));
    expect_values(
        values, [&](std::size_t i) { return element(0, i) + element(1, i); }, "sum");
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

}  // namespace
}  // namespace ddp::testing
