// One attempt: starts this node's workers, relays their output, and sees them all to their end.
//
//   1. All workers start. One that cannot be executed ends the attempt: trying again would not help.
//   2. The first worker to fail is the root cause. It is told to the other nodes; the other workers get SIGTERM, and
//      SIGKILL when they are still there after kFailureGrace (they will mostly have noticed by themselves).
//   3. SIGTERM, SIGINT or SIGHUP to ddprun goes to all workers; after the grace period, or at a second such signal,
//      SIGKILL follows. SIGUSR1 and SIGUSR2 are passed on.
//   4. When all workers have ended, whatever they left running is killed, also what moved to a session of its own:
//      ddprun is the subreaper of all of it. The rest of their output is written out.
//
// One thread, the main one (see worker_process.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ddp/deadline.h>

#include "launcher/environment.h"
#include "launcher/options.h"
#include "launcher/output.h"
#include "launcher/report.h"
#include "launcher/signals.h"
#include "launcher/worker_environment.h"
#include "launcher/worker_process.h"

namespace ddp::launcher {

struct Outcome {
  enum Kind {
    kSucceeded,      ///< all workers of this node returned 0
    kFailed,         ///< one failed: `failure`
    kCannotStart,    ///< `code` is 126 or 127
    kStopped,        ///< a signal to ddprun ended it
    kOverElsewhere,  ///< another node ended the attempt
  };
  Kind kind = kSucceeded;
  int code = 0;  ///< what ddprun returns if this is the end
  std::optional<Failure> failure;
};

class Supervisor {
 public:
  Supervisor(const Options& options, const Environment& inherited, Signals& signals);
  ~Supervisor();

  /// `over_fd` becomes readable when another node ends the attempt (-1: never); `failed` is called once, when
  /// a worker here fails.
  [[nodiscard]] Outcome run(const Attempt& attempt, int token_fd, int over_fd,
                            const std::function<void(const Failure&)>& failed);
  /// Writes out what is left of the output, bounded in time.
  void flush();
  /// Whether a signal has told ddprun to end.
  [[nodiscard]] int stop_signal() const { return stop_signal_; }
  /// Handles what has arrived between attempts.
  void take_signals();

 private:
  struct Worker;
  bool start_all(const Attempt& attempt, int token_fd, Outcome& outcome);
  void step(int over_fd, const std::function<void(const Failure&)>& failed);
  void reap(const std::function<void(const Failure&)>& failed);
  void on_signal(int signal);
  void stop_workers(int signal, std::chrono::milliseconds grace);
  void signal_workers(int signal) const;
  void read_output(Worker& worker);
  void kill_strays();
  [[nodiscard]] bool all_ended() const;
  [[nodiscard]] bool output_open() const;
  [[nodiscard]] int poll_timeout() const;
  [[nodiscard]] Outcome outcome() const;

  const Options& options_;
  const Environment& inherited_;
  Signals& signals_;
  OutputSink out_{1};
  OutputSink err_{2};
  std::vector<std::unique_ptr<Worker>> workers_;
  std::optional<Failure> failure_;
  std::optional<Clock::time_point> kill_at_;  ///< when SIGKILL follows the SIGTERM
  int stop_signal_ = 0;
  bool over_elsewhere_ = false;
};

}  // namespace ddp::launcher
