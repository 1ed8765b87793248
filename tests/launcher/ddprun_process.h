// A ddprun started by a test: its output, its end, and whether anything of it is left afterwards.
//
//   DdprunProcess job({"--nproc-per-node=2", TEST_WORKER, "tell"});
//   ASSERT_TRUE(job.saw("[1] ready"));
//   job.signal(SIGTERM);
//   EXPECT_EQ(job.wait(), 143);
//   EXPECT_TRUE(job.nothing_left());
//
// Every process below it inherits a variable with a unique value, by which it is found whatever became of its
// parent, session and group. All waits give up after kPatience, far more than a loaded machine needs. One thread.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace ddp::testing {

inline constexpr std::chrono::seconds kPatience{120};

struct ProcessSetup {
  std::map<std::string, std::string> environment;  ///< besides PATH and a few that every process needs
  /// Runs in the child before exec; only what is allowed after fork.
  std::function<void()> in_child;
  /// In front of ddprun: {"ip", "netns", "exec", "a"}.
  std::vector<std::string> wrapper;
  std::string input;  ///< on standard input, which ends after it
};

class DdprunProcess {
 public:
  explicit DdprunProcess(std::vector<std::string> arguments, ProcessSetup setup = {});
  /// Kills it and everything below it.
  ~DdprunProcess();
  DdprunProcess(const DdprunProcess&) = delete;
  DdprunProcess& operator=(const DdprunProcess&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// Waits until stdout and stderr together contain `text` `times` times; false when it ended without.
  [[nodiscard]] bool saw(const std::string& text, int times = 1);
  /// Its exit code, 128 + signal when one killed it, -1 when it did not end in time (then it is killed).
  [[nodiscard]] int wait();
  /// After wait(): complete.
  [[nodiscard]] std::string out();
  [[nodiscard]] std::string err();

  /// Processes below it, itself included.
  [[nodiscard]] std::set<pid_t> alive() const;
  /// Those below it that run a program whose command line contains `text`.
  [[nodiscard]] std::set<pid_t> alive(const std::string& text) const;
  /// Whether no process of it is there now.
  [[nodiscard]] bool nothing_left() const { return alive().empty(); }
  /// Waits for that: what the kernel kills takes a moment to go.
  [[nodiscard]] bool nothing_left_soon() const;

 private:
  void start(const std::vector<std::string>& words, const ProcessSetup& setup);
  void read(int fd, std::string& into);

  std::string mark_;
  pid_t pid_ = -1;
  int status_ = -1;
  bool reaped_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string out_, err_;
  int open_streams_ = 2;
  std::thread out_reader_, err_reader_;
};

/// What /proc tells of a process: "environ", "cmdline", with NUL bytes as they are; empty when it is gone.
[[nodiscard]] std::string proc_file(pid_t pid, const std::string& name);

/// How often `text` occurs.
[[nodiscard]] int count(const std::string& text, const std::string& part);

}  // namespace ddp::testing
