// What backends share that run operations in threads: blocking ones in the caller's, queued ones in their own.
//
// - Collectives run one after the other, in the order of the calls. A blocking one behind queued ones waits for its turn.
// - send and recv have a thread for each peer and direction, so that a queued send cannot keep a queued recv waiting.
// - The first error breaks the communicator: it is recorded, told to the other ranks, and thrown by every later call.
// - A forked child cannot use its parent's communicator, and destroying it there does nothing.
#pragma once

#include <map>
#include <utility>

#include <ddp/communicator.h>

#include "libddp/comm/describe.h"
#include "libddp/comm/failure.h"
#include "libddp/comm/operation.h"
#include "libddp/comm/serial_executor.h"
#include "libddp/core/fork_guard.h"

namespace ddp::comm {

class QueuedCommunicator : public Communicator {
 public:
  void abort(const std::string& reason) override;

 protected:
  Work submit(Operation operation, bool async) final;

  /// Executes an operation. `spin`: in the caller's thread, which has nothing else to do.
  virtual void dispatch(const Operation& operation, bool spin) = 0;
  /// Throws the failure that another rank has told meanwhile, if there is one.
  virtual void check_health() = 0;
  /// Records a failure and tells the other ranks, without blocking. Any thread.
  virtual void fail(ErrorKind kind, const std::string& text) = 0;
  [[nodiscard]] virtual RankName self() const = 0;

  /// What goes wrong in `work` breaks the communicator, here and on the other ranks.
  template <class Body>
  void guarded(Body body) {
    try {
      body();
    } catch (const Error& error) {
      fail(error.kind(), error.what());
      failure_.raise();
    } catch (const std::exception& error) {
      fail(ErrorKind::kError, error.what());
      failure_.raise();
    }
  }
  void require_own_process() const;
  /// For check_peer(). Throws Error for a rank that does not exist.
  void require_peer(int rank) const;
  /// No collective is queued or running in a thread of the communicator.
  [[nodiscard]] bool idle() const { return collective_executor_.idle(); }
  /// For destructors: ends what is queued with Aborted and joins. False in a forked child: leave everything as it is.
  [[nodiscard]] bool close();

  Failure failure_;
  ForkGuard guard_;  ///< of everything by which other ranks see that this one lives

 private:
  void execute(const Operation& operation, bool spin);
  [[nodiscard]] std::uint64_t next_sequence(const Operation& operation);
  [[nodiscard]] SerialExecutor& executor_of(const Operation& operation);

  std::uint64_t collectives_ = 0;
  std::map<std::pair<OpKind, int>, std::uint64_t> messages_;  ///< sent to and received from each peer
  SerialExecutor collective_executor_;
  std::map<std::pair<OpKind, int>, SerialExecutor> lane_executors_;  ///< asynchronous send and recv
};

}  // namespace ddp::comm

namespace ddp::host {
using namespace comm;
}  // namespace ddp::host
