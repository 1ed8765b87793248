// What holds of every backend. Compiled once for each: see CMakeLists.txt.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>

#include DDP_RANKS_HEADER  // thread_ranks.h or mpi_ranks.h: what run_ranks() means, and which layouts there are
#include "tests/comm/values.h"

namespace ddp {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kAllTypes;
using testing::Layout;
using testing::run_ranks;
using ::testing::StartsWith;
using testing::Values;

constexpr ReduceOp kOps[] = {ReduceOp::kSum,     ReduceOp::kMean,   ReduceOp::kMin,   ReduceOp::kMax,
                             ReduceOp::kProduct, ReduceOp::kBitAnd, ReduceOp::kBitOr, ReduceOp::kBitXor};

/// Elements that take each way: at once, one chunk, several chunks; odd so that slices are uneven.
constexpr std::size_t kCounts[] = {0, 1, 7, 1001, 20'011, 210'013};

/// Small enough that no dtype rounds or overflows in any operation over five ranks.
double value_of(int rank, std::size_t i, DType dtype) {
  const std::size_t mixed = i * 7 + static_cast<std::size_t>(rank) * 5;
  if (dtype == DType::kBool) return static_cast<double>(mixed % 3 == 0);
  return static_cast<double>(mixed % (dtype == DType::kInt8 ? 2 : 3) + 1);
}

double combine(double a, double b, DType dtype, ReduceOp op) {
  const auto x = static_cast<unsigned>(a);
  const auto y = static_cast<unsigned>(b);
  const bool boolean = dtype == DType::kBool;
  switch (op) {
    case ReduceOp::kSum:
      return boolean ? std::max(a, b) : a + b;
    case ReduceOp::kMean:
      return a + b;
    case ReduceOp::kMin:
      return std::min(a, b);
    case ReduceOp::kMax:
      return std::max(a, b);
    case ReduceOp::kProduct:
      return a * b;
    case ReduceOp::kBitAnd:
      return x & y;
    case ReduceOp::kBitOr:
      return x | y;
    default:
      return x ^ y;
  }
}

double expected(int ranks, std::size_t i, DType dtype, ReduceOp op) {
  const double factor = op == ReduceOp::kMean ? 1.0 / ranks : 1.0;
  double result = value_of(0, i, dtype) * factor;
  for (int r = 1; r < ranks; ++r) result = combine(result, value_of(r, i, dtype) * factor, dtype, op);
  return result;
}

void fill(Values& values, int rank, DType dtype, std::size_t from = 0) {
  for (std::size_t i = 0; i < values.size(); ++i) values.set(i, value_of(rank, from + i, dtype));
}

/// The number of elements that are not what they should be.
template <class F>
std::size_t wrong(const Values& values, DType dtype, const F& expected_at) {
  const double tolerance = dtype == DType::kBFloat16 ? 0.05 : dtype == DType::kFloat16 ? 0.01 : 1e-5;
  std::size_t count = 0;
  for (std::size_t i = 0; i < values.size(); ++i) count += std::abs(values[i] - expected_at(i)) > tolerance;
  return count;
}

class AnyCommunicator : public ::testing::TestWithParam<std::vector<int>> {
 protected:
  [[nodiscard]] Layout layout() const { return {.hosts = GetParam()}; }
  [[nodiscard]] int ranks() const { return layout().world_size(); }
  void run(const std::function<void(Communicator&)>& body) const {
    EXPECT_THAT(run_ranks(layout(), body), Each(IsEmpty()));
  }
};

/// What takes two.
class SeveralRanks : public AnyCommunicator {};

std::string layout_name(const ::testing::TestParamInfo<std::vector<int>>& info) {
  return Layout{.hosts = info.param}.name();
}

INSTANTIATE_TEST_SUITE_P(OneRank, AnyCommunicator, ::testing::Values(std::vector{1}), layout_name);
INSTANTIATE_TEST_SUITE_P(Layouts, AnyCommunicator, ::testing::ValuesIn(testing::several_ranks()),
                         layout_name);
INSTANTIATE_TEST_SUITE_P(Layouts, SeveralRanks, ::testing::ValuesIn(testing::several_ranks()), layout_name);

TEST_P(AnyCommunicator, AllReducesEveryTypeAndOperation) {
  run([this](Communicator& comm) {
    for (const DType dtype : kAllTypes)
      for (const ReduceOp op : kOps) {
        if (!supports(dtype, op)) continue;
        for (const std::size_t count : {std::size_t{1001}, std::size_t{20'011}}) {
          Values values(dtype, count);
          fill(values, comm.rank(), dtype);
          comm.all_reduce(values, {.op = op});
          EXPECT_EQ(wrong(values, dtype, [&](std::size_t i) { return expected(ranks(), i, dtype, op); }), 0u)
              << to_string(dtype) << ' ' << to_string(op) << " x " << count;
        }
      }
  });
}

TEST_P(AnyCommunicator, AllReducesEverySizeWhereverBuffersLie) {
  run([this](Communicator& comm) {
    for (const std::size_t count : kCounts)
      for (const int sharing : {0, 1, 2}) {  // nobody, everybody, even ranks
        const bool shared = sharing == 1 || (sharing == 2 && comm.rank() % 2 == 0);
        Values values(DType::kFloat32, count, shared ? &comm : nullptr);
        for (int repeat = 0; repeat < 3; ++repeat) {
          fill(values, comm.rank(), DType::kFloat32);
          comm.all_reduce(values);
          EXPECT_EQ(
              wrong(values, DType::kFloat32,
                    [&](std::size_t i) { return expected(ranks(), i, DType::kFloat32, ReduceOp::kSum); }),
              0u)
              << count << " sharing " << sharing;
        }
      }
  });
}

TEST_P(AnyCommunicator, ReducesToAnyRootAndLeavesOtherBuffersAlone) {
  run([this](Communicator& comm) {
    for (const std::size_t count : kCounts)
      for (const bool shared : {false, true})
        for (int root = 0; root < comm.size(); ++root) {
          Values values(DType::kInt32, count, shared ? &comm : nullptr);
          fill(values, comm.rank(), DType::kInt32);
          comm.reduce(values, root);
          const auto at = [&](std::size_t i) {
            return comm.rank() == root ? expected(ranks(), i, DType::kInt32, ReduceOp::kSum)
                                       : value_of(comm.rank(), i, DType::kInt32);
          };
          EXPECT_EQ(wrong(values, DType::kInt32, at), 0u) << count << " root " << root;
        }
  });
}

TEST_P(AnyCommunicator, BroadcastsFromAnyRoot) {
  run([](Communicator& comm) {
    for (const std::size_t count : kCounts)
      for (const bool shared : {false, true})
        for (int root = 0; root < comm.size(); ++root) {
          Values values(DType::kFloat64, count, shared ? &comm : nullptr);
          fill(values, comm.rank(), DType::kFloat64);
          comm.broadcast(values, root);
          EXPECT_EQ(wrong(values, DType::kFloat64,
                          [&](std::size_t i) { return value_of(root, i, DType::kFloat64); }),
                    0u);
        }
  });
}

TEST_P(AnyCommunicator, GathersEqualSharesToAllOrToOne) {
  run([](Communicator& comm) {
    for (const std::size_t count : kCounts)
      for (const bool shared : {false, true}) {
        const auto at = [&](std::size_t i) {
          return value_of(static_cast<int>(i / count), i % count, DType::kInt16);
        };
        Values input(DType::kInt16, count, shared ? &comm : nullptr);
        Values output(DType::kInt16, count * static_cast<std::size_t>(comm.size()));
        fill(input, comm.rank(), DType::kInt16);
        comm.all_gather(input, output);
        EXPECT_EQ(wrong(output, DType::kInt16, at), 0u) << count;
        for (int root = 0; root < comm.size(); ++root) {
          Values at_root(DType::kInt16, count * static_cast<std::size_t>(comm.size()));
          comm.gather(input, at_root, root);
          if (comm.rank() != root) continue;
          EXPECT_EQ(wrong(at_root, DType::kInt16, at), 0u) << count << " root " << root;
        }
      }
  });
}

/// Whoever only gives is done before the root has taken the last round, and announces shared memory next.
TEST_P(AnyCommunicator, GathersWhatWasGivenThoughGiversAreInTheNextOperation) {
  run([this](Communicator& comm) {
    constexpr std::size_t kCount = (1 << 20) / sizeof(float);  // two rounds
    Values input(DType::kFloat32, kCount),
        output(DType::kFloat32, kCount * static_cast<std::size_t>(ranks()));
    Values shared(DType::kFloat32, kCount, &comm);
    fill(input, comm.rank(), DType::kFloat32);
    for (int repeat = 0; repeat < 10; ++repeat) {
      fill(shared, comm.rank() + 1, DType::kFloat32);
      comm.gather(input, output, 0);
      comm.all_reduce(shared);
      if (comm.rank() != 0) continue;
      EXPECT_EQ(wrong(output, DType::kFloat32,
                      [&](std::size_t i) {
                        return value_of(static_cast<int>(i / kCount), i % kCount, DType::kFloat32);
                      }),
                0u);
    }
  });
}

TEST_P(AnyCommunicator, GathersUnequalSharesSomeOfThemEmpty) {
  run([](Communicator& comm) {
    for (const std::size_t unit : {0u, 1u, 300u, 100'003u}) {
      std::vector<std::size_t> counts;
      for (int r = 0; r < comm.size(); ++r) counts.push_back(unit * static_cast<std::size_t>(r % 3));
      std::vector<double> all;
      for (int r = 0; r < comm.size(); ++r)
        for (std::size_t i = 0; i < counts[static_cast<std::size_t>(r)]; ++i)
          all.push_back(value_of(r, i, DType::kUInt8));
      Values input(DType::kUInt8, counts[static_cast<std::size_t>(comm.rank())]);
      Values output(DType::kUInt8, all.size());
      fill(input, comm.rank(), DType::kUInt8);
      comm.all_gather(input, output, counts);
      EXPECT_EQ(wrong(output, DType::kUInt8, [&](std::size_t i) { return all[i]; }), 0u) << unit;
    }
  });
}

TEST_P(AnyCommunicator, ReduceScattersEveryTypeItsShareToEachRank) {
  run([this](Communicator& comm) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kInt64, DType::kComplex64})
      for (const std::size_t count : kCounts)
        for (const bool shared : {false, true}) {
          Values input(dtype, count * static_cast<std::size_t>(comm.size()), shared ? &comm : nullptr);
          Values output(dtype, count);
          fill(input, comm.rank(), dtype);
          comm.reduce_scatter(input, output);
          const std::size_t from = count * static_cast<std::size_t>(comm.rank());
          EXPECT_EQ(wrong(output, dtype,
                          [&](std::size_t i) { return expected(ranks(), from + i, dtype, ReduceOp::kSum); }),
                    0u)
              << to_string(dtype) << " x " << count;
        }
  });
}

TEST_P(AnyCommunicator, ScattersAndExchangesShares) {
  run([](Communicator& comm) {
    const auto ranks = static_cast<std::size_t>(comm.size());
    const auto me = static_cast<std::size_t>(comm.rank());
    for (const std::size_t count : kCounts)
      for (const bool shared : {false, true}) {
        Values input(DType::kFloat32, count * ranks, shared ? &comm : nullptr);
        fill(input, comm.rank(), DType::kFloat32);
        Values all(DType::kFloat32, count * ranks);
        comm.all_to_all(input, all);
        const auto exchanged = [&](std::size_t i) {
          return value_of(static_cast<int>(i / count), me * count + i % count, DType::kFloat32);
        };
        EXPECT_EQ(wrong(all, DType::kFloat32, exchanged), 0u) << count;
        const int root = comm.size() - 1;
        Values share(DType::kFloat32, count);
        comm.scatter(input, share, root);
        EXPECT_EQ(wrong(share, DType::kFloat32,
                        [&](std::size_t i) { return value_of(root, me * count + i, DType::kFloat32); }),
                  0u)
            << count;
      }
  });
}

TEST_P(SeveralRanks, SendsAndReceivesAroundARing) {
  run([](Communicator& comm) {
    const int next = (comm.rank() + 1) % comm.size();
    const int previous = (comm.rank() + comm.size() - 1) % comm.size();
    for (const std::size_t count : {std::size_t{0}, std::size_t{5}, std::size_t{300'000}}) {
      Values out(DType::kFloat32, count);
      Values in(DType::kFloat32, count);
      fill(out, comm.rank(), DType::kFloat32);
      if (comm.rank() == 0) {
        comm.send(out, next);
        comm.recv(in, previous);
      } else {
        comm.recv(in, previous);
        comm.send(out, next);
      }
      EXPECT_EQ(
          wrong(in, DType::kFloat32, [&](std::size_t i) { return value_of(previous, i, DType::kFloat32); }),
          0u)
          << count;
    }
  });
}

TEST_P(AnyCommunicator, RunsAsynchronousOperationsInOrder) {
  run([this](Communicator& comm) {
    std::vector<Values> buffers;
    std::vector<Work> works;
    for (int k = 0; k < 8; ++k) {
      buffers.emplace_back(DType::kFloat32, 5000 + static_cast<std::size_t>(k) * 3000,
                           k % 2 == 0 ? &comm : nullptr);
      fill(buffers.back(), comm.rank(), DType::kFloat32);
    }
    for (auto& buffer : buffers) works.push_back(comm.all_reduce(buffer, {.async_op = true}));
    Values last(DType::kFloat32, 10);
    fill(last, comm.rank(), DType::kFloat32);
    comm.all_reduce(last);  // blocking, behind what is queued
    const auto at = [&](std::size_t i) { return expected(ranks(), i, DType::kFloat32, ReduceOp::kSum); };
    EXPECT_EQ(wrong(last, DType::kFloat32, at), 0u);
    for (std::size_t k = 0; k < works.size(); ++k) {
      EXPECT_TRUE(works[k].done());
      works[k].wait();
      EXPECT_EQ(wrong(buffers[k], DType::kFloat32, at), 0u);
    }
  });
}

TEST_P(AnyCommunicator, SplitsIntoGroupsOrderedByKey) {
  run([](Communicator& comm) {
    const auto half = comm.split(comm.rank() % 2, -comm.rank());
    ASSERT_NE(half, nullptr);
    EXPECT_EQ(half->size(), (comm.size() + 1 - comm.rank() % 2) / 2);
    Values sum(DType::kInt64, 1);
    sum.set(0, comm.rank());
    half->all_reduce(sum);
    double in_my_half = 0;
    for (int r = comm.rank() % 2; r < comm.size(); r += 2) in_my_half += r;
    EXPECT_EQ(sum[0], in_my_half);
    Values first(DType::kInt64, 1);
    first.set(0, comm.rank());
    half->broadcast(first, 0);
    EXPECT_EQ(first[0], comm.rank() % 2 + (half->size() - 1) * 2);  // the highest rank has the lowest key
    EXPECT_EQ(comm.split(comm.rank() == 0 ? 0 : -1, 0) != nullptr, comm.rank() == 0);
  });
}

// --- Disagreement, deadlines, abort ----------------------------------------------------------------------------------

TEST_P(SeveralRanks, ReportsADisagreementOnEveryRankShowingBothSides) {
  const auto errors = run_ranks(layout(), [](Communicator& comm) {
    comm.barrier();
    Values values(DType::kFloat32, comm.rank() == 1 ? 200 : 100);
    comm.all_reduce(values);
  });
  EXPECT_THAT(errors, Each(AllOf(StartsWith("MismatchError"), HasSubstr("x 100"), HasSubstr("x 200"),
                                 HasSubstr("rank 1"))));
}

TEST_P(SeveralRanks, ReportsDifferentKindsTypesOperationsRootsAndTags) {
  using Call = std::function<void(Communicator&, Values&)>;
  const std::vector<std::pair<Call, Call>> pairs = {
      {[](Communicator& c, Values& v) { c.all_reduce(v); }, [](Communicator& c, Values&) { c.barrier(); }},
      {[](Communicator& c, Values& v) { c.all_reduce(v); },
       [](Communicator& c, Values&) {
         Values other(DType::kInt32, 64);
         c.all_reduce(other);
       }},
      {[](Communicator& c, Values& v) { c.all_reduce(v); },
       [](Communicator& c, Values& v) { c.all_reduce(v, {.op = ReduceOp::kMax}); }},
      {[](Communicator& c, Values& v) { c.broadcast(v, 0); },
       [](Communicator& c, Values& v) { c.broadcast(v, 1); }},
      {[](Communicator& c, Values& v) { c.all_reduce(v, {.tag = 1}); },
       [](Communicator& c, Values& v) { c.all_reduce(v, {.tag = 2}); }},
  };
  for (const auto& [first, others] : pairs) {
    const auto errors = run_ranks(layout(), [&](Communicator& comm) {
      Values values(DType::kFloat32, 64);
      (comm.rank() == 0 ? first : others)(comm, values);
      comm.barrier();  // who talked only to ranks that agree hears of it here
    });
    EXPECT_THAT(errors, Each(StartsWith("MismatchError")));
  }
}

TEST_P(SeveralRanks, NoticesAtOnceThatARankLeft) {
  const auto begin = Clock::now();
  auto errors = run_ranks(layout(), [&](Communicator& comm) {
    comm.barrier();
    if (comm.rank() == 1) return;
    comm.barrier();
  });
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(20));
  errors.erase(errors.begin() + 1);
  EXPECT_THAT(errors, Each(AllOf(StartsWith("PeerFailure"), HasSubstr("rank 1"), HasSubstr("barrier #2"))));
}

TEST(AnyCommunicatorChecks, RefusesUnknownTypesAndCountsThatNoMemoryHolds) {
  const auto errors = run_ranks({.hosts = {2}}, [](Communicator& comm) {
    float value = 1;
    const auto refused = [](const std::function<void()>& call, const char* why) {
      EXPECT_THAT(call, ::testing::ThrowsMessage<Error>(HasSubstr(why)));
    };
    refused([&] { comm.all_reduce({&value, 1, static_cast<DType>(77)}); }, "unknown dtype");
    refused(
        [&] {
          comm.all_reduce({&value, 1, DType::kFloat32}, {.op = static_cast<ReduceOp>(99)});
        },
        "unknown operation is not defined for float32");
    refused([&] { comm.all_reduce({&value, SIZE_MAX, DType::kFloat32}); }, "more than any memory holds");
    // Twice this wraps around to 0.
    const std::size_t half = SIZE_MAX / 2 + 1;
    refused(
        [&] {
          comm.all_gather({&value, half, DType::kUInt8}, {&value, 0, DType::kUInt8});
        },
        "more than any memory");
    refused(
        [&] {
          comm.scatter({&value, 0, DType::kUInt8}, {&value, half, DType::kUInt8}, 0);
        },
        "more than any memory");
    comm.barrier();  // a refused call has sent nothing
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST(AnyCommunicatorChecks, RefusesOverlapsButForARanksShareInItsOwnPlace) {
  const auto errors = run_ranks({.hosts = {2}}, [](Communicator& comm) {
    std::vector<float> all{1, 2, 3, 4, 5, 6};
    const auto at = [&](std::size_t i, std::size_t count) {
      return Buffer{all.data() + i, count, DType::kFloat32};
    };
    const auto refused = [](const std::function<void()>& call) {
      EXPECT_THAT(call, ::testing::ThrowsMessage<Error>(HasSubstr("overlap")));
    };
    const auto own = static_cast<std::size_t>(2 * comm.rank());
    refused([&] { comm.all_gather(at(1, 2), at(0, 4)); });
    refused([&] { comm.all_gather(at(2 - own, 2), at(0, 4)); });
    refused([&] { comm.reduce_scatter(at(0, 4), at(1, 2)); });
    refused([&] { comm.all_to_all(at(0, 4), at(1, 4)); });
    const std::size_t counts[] = {1, 2};
    refused([&] { comm.all_gather(at(comm.rank() == 0 ? 2 : 1, counts[comm.rank()]), at(1, 3), counts); });
    comm.all_gather(at(own, 2), at(0, 4));
    EXPECT_EQ(all, (std::vector<float>{1, 2, 3, 4, 5, 6}));
    comm.reduce_scatter(at(0, 4), at(own, 2));
    EXPECT_EQ(all[own], 2 * static_cast<float>(own + 1));
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(SeveralRanks, CheckPeerTellsThatARankLeftWithoutACollective) {
  auto errors = run_ranks(layout(), [&](Communicator& comm) {
    for (int rank = 0; rank < comm.size(); ++rank) comm.check_peer(rank);
    for (const int rank : {-1, comm.size(), 99}) EXPECT_THROW(comm.check_peer(rank), Error);
    comm.barrier();
    if (comm.rank() == 1) return;
    for (const Deadline deadline = Deadline::in(std::chrono::seconds(60));; std::this_thread::yield()) {
      comm.check_peer(1);
      deadline.check("waiting for check_peer to notice");
    }
  });
  errors.erase(errors.begin() + 1);
  EXPECT_THAT(errors, Each(AllOf(StartsWith("PeerFailure"), HasSubstr("rank 1"))));
}

TEST_P(SeveralRanks, StaysBrokenWithTheFirstError) {
  run_ranks(layout(), [](Communicator& comm) {
    Values values(DType::kFloat32, comm.rank() == 0 ? 1 : 2);
    std::string first;
    try {
      comm.all_reduce(values);
    } catch (const MismatchError& error) {
      first = error.what();
    }
    EXPECT_NE(first, "");
    for (int k = 0; k < 2; ++k) try {
        comm.barrier();
        ADD_FAILURE() << "a broken communicator must stay broken";
      } catch (const MismatchError& error) {
        EXPECT_EQ(error.what(), first);
      }
  });
}

class AnyCommunicatorMessages : public ::testing::TestWithParam<std::vector<int>> {};
INSTANTIATE_TEST_SUITE_P(Layouts, AnyCommunicatorMessages, ::testing::ValuesIn(testing::several_ranks()),
                         layout_name);

TEST_P(AnyCommunicatorMessages, QueuedInAnyOrderDoNotBlockEachOther) {
  const auto errors = run_ranks({.hosts = GetParam()}, [](Communicator& comm) {
    const int next = (comm.rank() + 1) % comm.size(),
              previous = (comm.rank() + comm.size() - 1) % comm.size();
    for (const std::size_t count : {std::size_t{0}, std::size_t{5}, std::size_t{2'000'000}})
      for (const bool receives_first : {true, false}) {
        Values out(DType::kFloat32, count), in(DType::kFloat32, count), all(DType::kFloat32, 3);
        fill(out, comm.rank(), DType::kFloat32);
        Work received, sent;
        if (receives_first) received = comm.recv(in, previous, {.async_op = true});
        sent = comm.send(out, next, {.async_op = true});
        if (!receives_first) received = comm.recv(in, previous, {.async_op = true});
        comm.all_reduce(all);  // is no part of that order either
        received.wait();
        sent.wait();
        EXPECT_EQ(
            wrong(in, DType::kFloat32, [&](std::size_t i) { return value_of(previous, i, DType::kFloat32); }),
            0u);
      }
  });
  EXPECT_THAT(errors, Each(IsEmpty()));
}

TEST_P(AnyCommunicatorMessages, OfAnotherSizeAreAMismatchForAll) {
  const auto errors =
      run_ranks({.hosts = GetParam(), .timeout = std::chrono::seconds(5)}, [](Communicator& comm) {
        Values values(DType::kFloat32, comm.rank() == 0 ? 10 : 11);
        if (comm.rank() == 0)
          comm.send(values, comm.size() - 1);
        else if (comm.rank() == comm.size() - 1)
          comm.recv(values, 0);
        comm.barrier();
      });
  EXPECT_THAT(errors, Each(AllOf(StartsWith("MismatchError"), HasSubstr("x 10"), HasSubstr("x 11"))));
}

TEST_P(AnyCommunicatorMessages, ThatNobodySendsAreATimeoutThatNamesWhoDidNot) {
  const auto errors =
      run_ranks({.hosts = GetParam(), .timeout = std::chrono::seconds(30)}, [](Communicator& comm) {
        Values values(DType::kFloat32, 10);
        if (comm.rank() == 0) comm.recv(values, comm.size() - 1, {.timeout = std::chrono::milliseconds(500)});
        comm.barrier();
      });
  for (const auto& error : errors)
    EXPECT_THAT(error, AllOf(StartsWith("TimeoutError"), HasSubstr("recv #1"),
                             HasSubstr("rank " + std::to_string(errors.size() - 1))));
}

}  // namespace
}  // namespace ddp
