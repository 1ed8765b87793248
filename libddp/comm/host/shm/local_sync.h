// How the ranks of one host wait for each other: every rank counts the synchronisations it has come to, in its own
// cache line of the control segment; a synchronisation is over when all counters have reached its number.
//
// A waiting rank spins for some 20 microseconds, offers its core to others for a millisecond, then sleeps on the
// missing rank's counter in slices of 5 ms. Between slices it looks whether a failure was recorded, whether the rank it
// waits for still lives, and what time it is. So death of that rank is noticed within a slice and no wait outlives its
// deadline.
//
// One thread at a time, except for record_failure and wake_all.
#pragma once

#include <cstdint>
#include <functional>

#include <ddp/communicator.h>

#include "libddp/comm/describe.h"
#include "libddp/comm/failure.h"
#include "libddp/comm/host/shm/local_link.h"

namespace ddp::host {

/// What goes on between hosts while a rank waits for another one of its own.
class OtherHosts {
 public:
  virtual ~OtherHosts() = default;
  /// Called between slices with the rank that is waited for; throws to end the wait.
  virtual void while_waiting(const Operation& operation, int rank) = 0;
  /// ", which waits for rank 4 (...)" when `rank` has told the other hosts so, else nothing.
  [[nodiscard]] virtual std::string behind(const Operation& operation, int rank) const = 0;
};

/// What a wait needs to know of the operation it belongs to.
struct WaitContext {
  const Operation& operation;
  OtherHosts* others = nullptr;  ///< null: there are none
  /// Whether this thread may burn its core for some microseconds: not the background thread of asynchronous operations.
  bool spin = true;
};

class LocalSync {
 public:
  /// `members` and `names` (by rank of the communicator) must outlive it.
  LocalSync(const LocalMembers& members, const std::vector<RankName>& names, Failure& failure);

  /// Number of the next synchronisation.
  [[nodiscard]] std::uint32_t next() const { return arrived_ + 1; }
  /// This rank has come to synchronisation next().
  void arrive();
  /// Waits until every other rank has come to the synchronisation this rank arrived at last. Throws the recorded
  /// failure, PeerFailure (a rank died or closed its communicator), TimeoutError (naming the missing rank).
  void wait_all(const WaitContext& context);

  /// Waits until `word` is no longer `seen`, which rank `index` will do. For the lanes of send and receive.
  void wait_change(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers, std::uint32_t seen,
                   int index, const WaitContext& context) const;

  /// Makes `kind` and `text` known to all ranks of the host, unless another failure was first, and wakes
  /// them. Any thread.
  void record_failure(ErrorKind kind, const std::string& text);
  /// Throws the failure that any rank of the host recorded.
  void check_failure() const;
  /// Throws when another rank of the host has closed its communicator or died. Never waits.
  void check_member(int index) const;
  /// Says that this rank closes its communicator in good order.
  void close();

 private:
  void slice(int index, const WaitContext& context, const std::function<bool()>& over) const;
  void check_missing(const WaitContext& context) const;
  void check_peer(int index, const WaitContext& context, const std::function<bool()>& over) const;
  [[noreturn]] void fail(ErrorKind kind, const WaitContext& context, const std::string& what) const;
  [[nodiscard]] const RankName& name(int index) const {
    return names_[static_cast<std::size_t>(members_.ranks[static_cast<std::size_t>(index)])];
  }

  const LocalMembers& members_;
  const std::vector<RankName>& names_;
  Failure& failure_;
  std::uint32_t arrived_ = 0;
  int spins_ = 0;
};

}  // namespace ddp::host
