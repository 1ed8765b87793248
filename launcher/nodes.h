// How the ddpruns of several nodes act as one. They meet in the store that node 0's ddprun hosts.
//
//   1. Node 0 writes "agent/config", what all nodes must have been started with; whoever differs says so and
//      leaves. For attempt n node 0 writes "agent/current" = n.
//   2. Every node takes its place: "agent/n/here/<node>" = its identity and the last attempt it ran. The place
//      of a ddprun whose heart has stopped (pulse.h) is taken over.
//   3. When all places are taken node 0 creates "agent/n/go": a port for the workers' MASTER_PORT and whom it
//      saw. If somebody has already run attempt n or a later one, because node 0 itself was restarted, it goes
//      on to the one after the latest instead: attempt numbers never repeat, and neither does the budget.
//   4. A node that comes to an attempt which runs without it (its ddprun was restarted) ends that attempt.
//   5. A node where a worker fails creates "agent/n/over" with the reason; the first one wins. Every node
//      listens for that key and stops its workers when it appears.
//   6. A node whose workers have all returned 0 counts itself in "agent/n/done"; the last one creates
//      "agent/n/over" with code 0.
//   7. Node 0 writes the number of the next attempt to "agent/n/next", for which the others wait; -1 when it
//      leaves. Then, or when it is lost, they try to reach a new one until their join timeout.
//
// One Nodes object lives as long as the connection. Belongs to the main thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ddp/deadline.h>
#include <ddp/store.h>

#include "launcher/options.h"
#include "launcher/pulse.h"
#include "launcher/verdict.h"

namespace ddp::launcher {

class Nodes {
 public:
  /// `identity` is unique to this connection, "<host>/<pid>/<id> <count>". Throws ConfigError when another
  /// ddprun holds this node's rank or the nodes were started with different options.
  Nodes(const Options& options, std::shared_ptr<Store> store, std::string identity, Deadline deadline);

  struct Start {
    int attempt = 0;
    std::uint16_t port = 0;  ///< the workers' MASTER_PORT
  };
  /// What join() came to: a start, or the end of the job, or (neither) `interrupted` returned true.
  struct Joined {
    std::optional<Start> start;
    std::optional<Verdict> end;
  };
  /// Steps 2 to 4 and 7. `last` is the last attempt this ddprun ran, -1: none. Asks `interrupted` ten times a
  /// second. Throws TimeoutError naming the nodes that did not come, RendezvousError when node 0 is lost.
  [[nodiscard]] Joined join(int last, std::uint16_t proposed_port, Deadline deadline,
                            const std::function<bool()>& interrupted);
  /// Readable once the attempt is over or node 0 is lost.
  [[nodiscard]] int over_fd() const { return pulse_.fd(); }
  /// How the attempt ended; nullopt while it runs. Throws RendezvousError when node 0 is lost, ConfigError
  /// when another ddprun took this node's rank.
  [[nodiscard]] std::optional<Verdict> over() const { return pulse_.over(); }
  /// Step 5: ends the attempt unless it is over already. Logs a warning when node 0 cannot be told.
  void end_attempt(const Verdict& verdict);
  /// Step 6.
  void report_success();
  /// Node 0 ends and will not begin another attempt: the others need not wait for it on this connection.
  void leave();

 private:
  enum class Wait { kFound, kInterrupted, kOver };
  [[nodiscard]] std::string key(const std::string& name) const;
  void agree_on_options(Deadline deadline);
  bool take_place(int last);
  [[nodiscard]] std::optional<std::string> wait_for(const std::string& name, Deadline deadline);
  [[nodiscard]] bool give_go(std::uint16_t port, Deadline deadline);
  [[nodiscard]] bool listed_in(const std::string& go) const;
  [[nodiscard]] std::string missing() const;
  void came_back();
  [[nodiscard]] bool next_attempt(int last, Deadline deadline);
  [[nodiscard]] Deadline soon() const { return Deadline::in(options_.heartbeat_timeout); }

  const Options& options_;
  std::shared_ptr<Store> store_;
  std::string identity_;
  Pulse pulse_;
  std::function<bool()> interrupted_;
  int attempt_ = -1;
  std::optional<int> next_;  ///< node 0: instead of attempt_ + 1
};

}  // namespace ddp::launcher
