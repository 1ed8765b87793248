#include "libddp/core/fork_guard.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>

#include "libddp/core/fd.h"

namespace ddp {
namespace {

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    read = FileDescriptor(ends[0]);
    write = FileDescriptor(ends[1]);
  }
  FileDescriptor read, write;
};

bool is_closed(const FileDescriptor& read_end) {
  pollfd entry{read_end.get(), POLLIN, 0};
  return ::poll(&entry, 1, 5000) == 1 && (entry.revents & POLLHUP) != 0;
}

/// What a forked child returns.
int in_child(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = -1;
  return ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ForkGuard, ChildrenDoNotKeepADescriptorOpen) {
  Pipe guarded, life;
  const ForkGuard guard({guarded.write.get()});
  const pid_t child = ::fork();
  if (child == 0) {
    life.write.reset();
    char byte = 0;
    ::_exit(static_cast<int>(::read(life.read.get(), &byte, 1)));  // until the parent's end closes
  }
  guarded.write.reset();
  EXPECT_TRUE(is_closed(guarded.read));
  life.write.reset();
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
}

TEST(ForkGuard, ChildrenSeeNothingWhereTheDescriptorWasAndKnowThatTheyAreChildren) {
  Pipe guarded;
  const ForkGuard guard({guarded.write.get()});
  EXPECT_EQ(in_child([&] {
              const bool nothing = ::write(guarded.write.get(), "x", 1) == 1;
              return nothing && guard.is_forked() && !ForkGuard().is_forked() ? 0 : 1;
            }),
            0);
  EXPECT_FALSE(guard.is_forked());
  pollfd entry{guarded.read.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 0), 0) << "the child wrote into the parent's pipe";
}

TEST(ForkGuard, LeavesANumberAloneThatMeansAnotherFileByNow) {
  Pipe first, second;
  const int number = first.write.get();
  const ForkGuard guard({number});
  first.write.reset();
  const FileDescriptor reused(::dup2(second.write.get(), number));
  EXPECT_EQ(in_child([&] { return ::write(number, "x", 1) == 1 ? 0 : 1; }), 0);
  char byte = 0;
  EXPECT_EQ(::read(second.read.get(), &byte, 1), 1);
}

TEST(ForkGuard, ForgetsWhatItsEndReleases) {
  Pipe pipe;
  { const ForkGuard guard({pipe.write.get()}); }
  EXPECT_EQ(in_child([&] { return ::write(pipe.write.get(), "x", 1) == 1 ? 0 : 1; }), 0);
  char byte = 0;
  EXPECT_EQ(::read(pipe.read.get(), &byte, 1), 1);
}

}  // namespace
}  // namespace ddp
