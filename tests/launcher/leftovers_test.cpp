// No process that a worker started outlives the job, however it was started.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/launcher/ddprun_process.h"
#include "tests/launcher/temporary_folder.h"

namespace ddp::testing {
namespace {

// A child, a grandchild whose parent is gone, one in a session of its own, and a daemon without streams.
constexpr const char* kBreed =
    "sleep 1001 & sh -c 'sleep 1002 & exit 0'; setsid sleep 1003 & "
    "setsid sh -c 'sleep 1004 > /dev/null 2>&1 < /dev/null & exit 0'; "
    // Not before all four are there.
    "for n in 1001 1002 1003 1004; do until cat /proc/[0-9]*/cmdline 2> /dev/null | tr '\\0' ' ' | grep -q "
    "\"sleep $n\"; "
    "do :; done; done; ";

TEST(DdprunLeaves, NothingBehindAWorkerThatSucceeds) {
  DdprunProcess job({"--nproc-per-node=2", "sh", "-c", std::string(kBreed) + "exit 0"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunLeaves, ChildrenAloneThatItWasStartedWith) {
  const TemporaryFolder folder;
  const std::string file = folder.path() + "/pid";
  ProcessSetup setup;
  setup.in_child = [&file] {  // what `sidecar & exec ddprun` does
    const pid_t sidecar = ::fork();
    if (sidecar == 0) {
      for (int fd = 0; fd < 3; ++fd) ::close(fd);
      ::execlp("sleep", "sleep", "60", nullptr);
      ::_exit(1);
    }
    std::ofstream(file) << sidecar;
  };
  DdprunProcess job({"true"}, setup);
  EXPECT_EQ(job.wait(), 0);
  const pid_t sidecar = std::stoi(folder.read("pid"));
  EXPECT_EQ(::kill(sidecar, SIGKILL), 0) << "ddprun killed it";
}

TEST(DdprunLeaves, NothingBehindAWorkerThatFails) {
  DdprunProcess job({"--nproc-per-node=2", "sh", "-c", std::string(kBreed) + "exit 3"});
  EXPECT_EQ(job.wait(), 3);
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunLeaves, NothingBehindAWorkerThatIsKilled) {
  DdprunProcess job({"--nproc-per-node=2", "sh", "-c", std::string(kBreed) + "kill -KILL $$"});
  EXPECT_EQ(job.wait(), 137);
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunLeaves, NothingBehindASignal) {
  DdprunProcess job({"--nproc-per-node=2", "sh", "-c", std::string(kBreed) + "echo ready; exec sleep 1005"});
  ASSERT_TRUE(job.saw("ready", 2));
  EXPECT_GE(job.alive("sleep").size(), 10u);
  job.signal(SIGTERM);
  EXPECT_EQ(job.wait(), 143);
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunLeaves, NoDaemonThatIgnoresSignals) {
  DdprunProcess job({"sh", "-c", "setsid \"$0\" ignore & sleep 1000", TEST_WORKER});
  ASSERT_TRUE(job.saw("ready"));
  job.signal(SIGTERM);
  EXPECT_EQ(job.wait(), 143);
  EXPECT_TRUE(job.nothing_left());
}

TEST(DdprunLeaves, NoWorkerWhenItIsKilledItself) {
  DdprunProcess job({"--nproc-per-node=4", TEST_WORKER, "ignore"});
  ASSERT_TRUE(job.saw("ready", 4));
  job.signal(SIGKILL);
  EXPECT_EQ(job.wait(), 137);
  EXPECT_TRUE(job.nothing_left_soon());
}

// Ends a pid namespace, and with it every process in it, at the end of its process 1.
bool pid_namespaces_work() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::execlp("unshare", "unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true",
             nullptr);
    ::_exit(1);
  }
  int status = 1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

class DdprunAsProcessOne : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!pid_namespaces_work()) GTEST_SKIP() << "skipped: this machine does not permit pid namespaces";
    setup_.wrapper = {"unshare", "--user",       "--map-root-user", "--pid",
                      "--fork",  "--mount-proc", "--kill-child"};
  }
  ProcessSetup setup_;
};

TEST_F(DdprunAsProcessOne, ReapsOrphans) {
  DdprunProcess job({"sh", "-c",
                     "[ $PPID = 1 ] || exit 9; for i in 1 2 3 4 5; do sh -c '(exit 0) & exit 0'; done; "
                     "while cat /proc/[0-9]*/stat 2> /dev/null | grep -q ') Z 1 '; do :; done; echo clean"},
                    setup_);
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out(), "[0] clean\n");
}

TEST_F(DdprunAsProcessOne, ObeysSignals) {
  DdprunProcess job({"--nproc-per-node=2", TEST_WORKER, "tell"}, setup_);
  ASSERT_TRUE(job.saw("ready", 2));
  for (const pid_t pid : job.alive(DDPRUN))
    if (pid != job.pid()) ::kill(pid, SIGTERM);
  EXPECT_EQ(job.wait(), 143);
  EXPECT_TRUE(job.nothing_left_soon());
}

TEST_F(DdprunAsProcessOne, TakesEverythingWithItWhenItIsKilled) {
  DdprunProcess job({"sh", "-c", "setsid sleep 1006 & echo ready; exec sleep 1007"}, setup_);
  ASSERT_TRUE(job.saw("ready"));
  for (const pid_t pid : job.alive(DDPRUN))
    if (pid != job.pid()) ::kill(pid, SIGKILL);
  EXPECT_NE(job.wait(), 0);
  EXPECT_TRUE(job.nothing_left_soon());
}

}  // namespace
}  // namespace ddp::testing
