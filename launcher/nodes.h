// How the ddpruns of several nodes act as one. They meet in the store that node 0's ddprun hosts; attempt n
// uses the keys "agent/n/...".
//
//   1. Node 0 sets "agent/current" to n; everybody else reads it. Every node sets "agent/n/here/<node>" and waits for
//      all nodes, with the join timeout. Node 0 chooses a port for the workers' MASTER_PORT and sets "agent/n/port".
//   2. A node where a worker fails tries to create "agent/n/over" with the reason; the first one wins. All nodes wait
//      for that key and stop their workers when it appears.
//   3. A node whose workers have all returned 0 counts itself in "agent/n/done"; the last one creates "agent/n/over"
//      as "succeeded".
//   4. Every node raises "agent/beat/<node>" every second. Node 0 ends the attempt when one has been silent for the
//      heartbeat timeout. When node 0 itself is lost, the connection to the store is: the others stop their workers
//      and try to join again.
//   5. After "over" everybody goes on with attempt n + 1, or ends when that would be more than max_restarts. A ddprun
//      that was itself restarted finds its "here" in attempt n already: it ends that attempt and joins the next.
//
// One Nodes object lives as long as the connection; threads inside.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include <ddp/rendezvous.h>

#include "launcher/options.h"
#include "libddp/core/fd.h"

namespace ddp::launcher {

class Nodes {
 public:
  /// Throws what connect_store throws.
  Nodes(const Options& options, std::shared_ptr<Store> store);
  ~Nodes();

  /// Steps 1 and 5: returns the attempt to run, and the workers' port. Throws TimeoutError naming the nodes
  /// that did not come.
  struct Start {
    int attempt = 0;
    std::uint16_t port = 0;
  };
  [[nodiscard]] Start join(std::uint16_t proposed_port);
  /// Readable once the present attempt is over.
  [[nodiscard]] int over_fd() const { return over_fd_.get(); }
  /// Step 2.
  void report_failure(const std::string& reason, int code);
  /// Step 3; waits until the attempt is over everywhere.
  void report_success();

  struct Verdict {
    bool succeeded = false;
    bool lost_store = false;  ///< node 0 is gone
    int code = 1;
    std::string reason;
  };
  /// Waits until the attempt is over.
  [[nodiscard]] Verdict verdict();

 private:
  [[nodiscard]] std::string key(const std::string& name) const;
  void end_attempt(const std::string& value);
  void watch();
  void beat();
  void watch_beats();

  const Options& options_;
  std::shared_ptr<Store> store_;
  int attempt_ = -1;
  FileDescriptor over_fd_;
  std::jthread watcher_;
  std::jthread heart_;
  std::string over_;  ///< value of "over"; empty: the store was lost
};

}  // namespace ddp::launcher
