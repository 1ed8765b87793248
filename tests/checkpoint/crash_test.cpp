// A process that saves in a loop is killed with SIGKILL at random instants, again and again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <random>

#include "libddp/core/fd.h"
#include "tests/checkpoint/support.h"

namespace ddp::checkpoint {
namespace {
using namespace testing_support;

constexpr int kKills = 30;
constexpr int kRanks = 2;

/// Saves step after step and reports each committed one; ends by being killed, or with an exit code on an error.
void save_forever(const std::filesystem::path& folder, int report) {
  const auto errors = run_ranks(kRanks, [&](Group& group) {
    Session session(group, std::make_shared<PosixStorage>(folder),
                    {.keep = 2, .timeout = std::chrono::seconds(60)});
    PlainState state(group.rank(), 0);
    const auto restored = session.restore(state.loader());
    for (std::int64_t step = restored ? *restored + 1 : 0;; ++step) {
      state.fill(static_cast<std::uint64_t>(step));
      session.save(step, false, [&] { return state.tensors(); });
      if (group.rank() == 0 && ::write(report, &step, sizeof step) != sizeof step)
        throw Error("the parent is gone");
    }
  });
  for (const auto& error : errors) std::fprintf(stderr, "child: %s\n", error.c_str());
}

/// A child that is killed and reaped with its guard.
class Child {
 public:
  explicit Child(const std::filesystem::path& folder) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
    reports_ = FileDescriptor(ends[0]);
    FileDescriptor report(ends[1]);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ == 0) {
      reports_.reset();
      save_forever(folder, report.get());
      ::_exit(1);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { kill(); }

  /// Waits until the child has reported a commit; false when it ended instead.
  bool wait_for_report() { return read_report(); }
  /// The wait status.
  int kill() {
    if (pid_ <= 0) return status_;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    while (read_report()) {
    }
    return status_;
  }
  [[nodiscard]] std::int64_t last_reported() const { return last_; }

 private:
  bool read_report() {
    std::int64_t step = 0;
    if (::read(reports_.get(), &step, sizeof step) != sizeof step) return false;
    last_ = step;
    return true;
  }
  pid_t pid_ = -1;
  int status_ = 0;
  FileDescriptor reports_;
  std::int64_t last_ = -1;
};

TEST(Crash, AfterAKillAtAnyInstantTheNewestCommitIsThereAndVerifies) {
  TemporaryFolder folder;
  std::mt19937_64 random(4711);
  std::int64_t reported = -1;
  for (int round = 0; round < kKills; ++round) {
    {
      Child child(folder.path());
      ASSERT_TRUE(child.wait_for_report()) << "round " << round << ": the child ended by itself";
      // The instant is what this test varies; nothing is synchronised by it.
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
      const int status = child.kill();
      ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "round " << round;
      ASSERT_GT(child.last_reported(), reported);
      reported = child.last_reported();
    }
    std::int64_t found = -1;
    const auto errors = run_ranks(kRanks, [&](Group& group) {
      Session session(group, std::make_shared<PosixStorage>(folder.path()), {.read_only = true});
      PlainState state(group.rank(), 999'999);
      const auto step = session.restore(state.loader());
      if (!step) throw Error("nothing was restored");
      EXPECT_EQ(state, PlainState(group.rank(), static_cast<std::uint64_t>(*step)));
      if (group.rank() == 0) found = *step;
    });
    for (const auto& error : errors) ASSERT_EQ(error, "") << "round " << round;
    ASSERT_GE(found, reported) << "round " << round << ": a reported commit was lost";
    ASSERT_LE(found, reported + 1) << "round " << round;
    reported = found;
  }
}

}  // namespace
}  // namespace ddp::checkpoint
