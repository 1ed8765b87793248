// The heart of one node's ddprun among several, and its ear: a thread that says "still here" and listens for
// the end of the attempt.
//
//   1. Every beat changes "agent/beat/<node>" = "<identity> <count>". Whoever finds another identity there
//      has been replaced, or is the second ddprun with this node's rank.
//   2. Between beats it waits for "agent/<attempt>/over".
//   3. Node 0 looks at the others' beats and ends the attempt when one has been silent for the heartbeat
//      timeout. The others know that node 0 is gone when their connection is, or when a beat is not answered
//      within the heartbeat timeout.
//
// begin(), over() and fd() belong to the main thread.
#pragma once

#include <condition_variable>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <ddp/store.h>

#include "launcher/options.h"
#include "launcher/verdict.h"
#include "libddp/core/fd.h"

namespace ddp::launcher {

class Pulse {
 public:
  /// `identity` is "<process> <connection>". Waits three beats to see whether another ddprun holds this node's
  /// rank. Throws ConfigError that names it if so.
  Pulse(const Options& options, std::shared_ptr<Store> store, std::string identity);
  ~Pulse();

  /// Listens for the end of `attempt` from now on.
  void begin(int attempt);
  /// Readable once the attempt is over or contact is lost.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// How the attempt ended; nullopt while it runs. Throws the error that ended contact.
  [[nodiscard]] std::optional<Verdict> over() const;

 private:
  struct Seen {
    std::string beat;
    Clock::time_point when;
  };
  void claim(const std::string& identity);
  void run(const std::stop_token& stop);
  void beat();
  void look_after_others();
  void listen(const std::stop_token& stop);
  void wake() const;

  const Options& options_;
  std::shared_ptr<Store> store_;
  std::chrono::milliseconds interval_;
  std::string key_;
  std::string identity_;
  std::string last_beat_;
  std::int64_t count_ = 0;
  std::map<int, Seen> others_;
  Clock::time_point looked_ = Clock::now();
  FileDescriptor fd_;

  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<int> attempt_;  ///< that is running
  std::optional<Verdict> over_;
  std::exception_ptr lost_;
  std::jthread thread_;  ///< last: uses all of the above
};

}  // namespace ddp::launcher
