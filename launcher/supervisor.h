// One attempt: starts this node's workers, relays their output, and sees them all to their end.
//
//   1. All workers start. One that cannot be executed ends the attempt: trying again would not help.
//   2. The first worker to fail is the root cause. It is told to the other nodes; the other workers get
//      SIGTERM, and SIGKILL when they are still there after kFailureGrace (they will mostly have noticed by
//      themselves).
//   3. SIGTERM, SIGINT, SIGQUIT or SIGHUP to ddprun goes to all workers; after the grace period, or at a
//      second such signal, SIGKILL follows. SIGUSR1 and SIGUSR2 are passed on.
//   4. When all workers have ended, whatever they left running is killed, also what moved to a session of its
//      own: ddprun is the subreaper of all of it. The rest of their output is written out, for as long as
//      somebody reads it.
//
// One thread, the main one (see worker_process.h).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
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
  /// `descriptors`: the workers' limit of open files.
  Supervisor(const Options& options, const Environment& inherited, Signals& signals, rlimit descriptors);
  ~Supervisor();

  /// `over_fd` becomes readable when another node ends the attempt (-1: never); `failed` is called once, when
  /// a worker here fails. Throws ConfigError (--log-dir) or Error (the system refuses processes); no worker is
  /// left then.
  [[nodiscard]] Outcome run(const Attempt& attempt, int token_fd, int over_fd,
                            const std::function<void(const Failure&)>& failed);
  /// A message of ddprun itself, in order with what workers wrote to stderr. Returns when it is written, or
  /// nobody reads.
  void say(const std::string& text);
  /// Whether output was lost for another reason than a reader that left (a full disk).
  [[nodiscard]] bool lost_output() const;
  /// Waits, between attempts, until `fd` is readable; false when a signal to end comes first.
  [[nodiscard]] bool wait_for(int fd);
  /// Whether a signal has told ddprun to end.
  [[nodiscard]] int stop_signal() const { return stop_signal_; }
  /// Handles what has arrived between attempts.
  void take_signals();

 private:
  struct Worker;
  using Failed = std::function<void(const Failure&)>;
  [[nodiscard]] Outcome run_workers(const Attempt& attempt, int token_fd, int over_fd, const Failed& failed);
  bool start_all(const Attempt& attempt, int token_fd, Outcome& outcome);
  void start(const WorkerCommand& command, const Attempt& attempt, int rank, int& error);
  void step(int over_fd, const Failed& failed);
  void reap(const Failed& failed);
  void on_failure(const Worker& worker, const Failed& failed);
  void on_signal(int signal);
  void stop_workers(int signal, std::chrono::milliseconds grace);
  void signal_workers(int signal) const;
  void read_output(Worker& worker);
  void write_output(short out_events, short err_events);
  void drain();
  void kill_strays();
  [[nodiscard]] std::set<pid_t> strays() const;
  [[nodiscard]] OutputSink& err() { return one_stream_ ? out_ : err_; }
  [[nodiscard]] bool all_ended() const;
  [[nodiscard]] bool output_open() const;
  [[nodiscard]] int poll_timeout() const;
  [[nodiscard]] Outcome outcome() const;

  const Options& options_;
  const Environment& inherited_;
  Signals& signals_;
  rlimit descriptors_;
  OutputSink out_{1};
  OutputSink err_{2};
  std::set<pid_t>
      strangers_;    ///< children that ddprun was started with (sidecar & exec ddprun): none of its business
  bool one_stream_;  ///< both lead to the same file or terminal: one queue keeps lines whole and in order
  std::vector<std::unique_ptr<Worker>> workers_;
  std::optional<Failure> failure_;
  std::optional<Clock::time_point> kill_at_;  ///< when SIGKILL follows the SIGTERM
  int stop_signal_ = 0;
  int stops_ = 0;  ///< signals to end so far
  bool over_elsewhere_ = false;
};

}  // namespace ddp::launcher
