#include "libddp/comm/host/shm/local_sync.h"

#include <sched.h>

#include <algorithm>
#include <cstring>

#include <ddp/error.h>

#include "libddp/comm/host/shm/futex.h"

namespace ddp::host {
namespace {

using std::chrono::milliseconds;

/// How long a rank may be dead before others notice.
constexpr milliseconds kSlice{5};
/// A spin is about 20 ns. A sleeping rank needs some 50 microseconds to wake up, during which the others
/// would fall asleep in turn, so a rank that may burn its core first spins, then yields, and sleeps only when
/// the others are really busy elsewhere.
constexpr int kSpins = 1000;
constexpr std::chrono::microseconds kYielding{1000};

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// With fewer cores than ranks spinning would keep the missing rank from running.
int spins_for(std::size_t ranks) {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (::sched_getaffinity(0, sizeof cpus, &cpus) != 0) return 0;
  return static_cast<std::size_t>(CPU_COUNT(&cpus)) >= ranks ? kSpins : 0;
}

template <class Over>
bool spin_until(const Over& over, int spins) {
  for (int i = 0; i < spins; ++i) {
    if (over()) return true;
    relax();
  }
  for (const auto end = Clock::now() + kYielding; Clock::now() < end; ::sched_yield())
    if (over()) return true;
  return false;
}

/// Counters wrap.
bool reached(std::uint32_t counter, std::uint32_t number) {
  return static_cast<std::int32_t>(counter - number) >= 0;
}

}  // namespace

LocalSync::LocalSync(const LocalMembers& members, const std::vector<RankName>& names, Failure& failure)
    : members_(members), names_(names), failure_(failure), spins_(spins_for(members.ranks.size())) {}

void LocalSync::arrive() {
  RankControl& own = members_.rank(members_.index);
  own.arrived.store(++arrived_, std::memory_order_seq_cst);
  if (own.sleepers.load(std::memory_order_seq_cst) != 0) futex_wake_all(own.arrived);
}

void LocalSync::wait_all(const WaitContext& context) {
  for (int i = 0; i < static_cast<int>(members_.ranks.size()); ++i) {
    if (i == members_.index) continue;
    RankControl& peer = members_.rank(i);
    for (std::uint32_t seen; !reached(seen = peer.arrived.load(std::memory_order_acquire), arrived_);)
      wait_change(peer.arrived, peer.sleepers, seen, i, context);
  }
}

void LocalSync::wait_change(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers,
                            std::uint32_t seen, int index, const WaitContext& context) const {
  const auto over = [&] { return word.load(std::memory_order_acquire) != seen; };
  if (context.spin && spin_until(over, spins_)) return;
  while (!over()) {
    sleepers.fetch_add(1, std::memory_order_seq_cst);
    if (word.load(std::memory_order_seq_cst) == seen)
      futex_wait(word, seen,
                 std::min<std::chrono::nanoseconds>(kSlice, context.operation.deadline.remaining()));
    sleepers.fetch_sub(1, std::memory_order_relaxed);
    slice(index, context, over);
  }
}

void LocalSync::slice(int index, const WaitContext& context, const std::function<bool()>& over) const {
  if (over()) return;
  check_failure();
  if (context.others != nullptr) context.others->while_waiting(context.operation, name(index).rank);
  check_peer(index, context, over);
  if (context.operation.peer < 0) check_missing(context);
  if (context.operation.deadline.passed() && !over())
    fail(ErrorKind::kTimeout, context,
         "timed out after " + to_string(context.operation.deadline.timeout()) + " waiting for " +
             describe(name(index)) + ", which is alive but has not come" +
             (context.others == nullptr ? "" : context.others->behind(context.operation, name(index).rank)));
}

/// Of a collective: whoever is missing must still be able to come, not only the one that is waited for first.
void LocalSync::check_missing(const WaitContext& context) const {
  for (int i = 0; i < static_cast<int>(members_.ranks.size()); ++i) {
    const auto over = [&] {
      return reached(members_.rank(i).arrived.load(std::memory_order_acquire), arrived_);
    };
    if (i != members_.index && !over()) check_peer(i, context, over);
  }
}

void LocalSync::check_peer(int index, const WaitContext& context, const std::function<bool()>& over) const {
  if (members_.rank(index).closed.load(std::memory_order_acquire) != 0) {
    check_failure();  // it may have recorded why it closed
    if (!over())
      fail(ErrorKind::kPeerFailure, context, describe(name(index)) + " has closed its communicator");
    return;
  }
  if (is_alive(members_.lock_fd, members_.slots[static_cast<std::size_t>(index)])) return;
  // It may have recorded why it goes, or come just before it died.
  check_failure();
  if (!over()) fail(ErrorKind::kPeerFailure, context, describe(name(index)) + " died");
}

void LocalSync::check_member(int index) const {
  check_failure();
  const bool closed = members_.rank(index).closed.load(std::memory_order_acquire) != 0;
  if (!closed && is_alive(members_.lock_fd, members_.slots[static_cast<std::size_t>(index)])) return;
  check_failure();  // it may have recorded why it goes
  throw PeerFailure(describe(name(members_.index)) + ": " + describe(name(index)) +
                    (closed ? " has closed its communicator" : " died"));
}

void LocalSync::fail(ErrorKind kind, const WaitContext& context, const std::string& what) const {
  throw_error(kind, describe(name(members_.index)) + ": " + describe(context.operation) + ": " + what);
}

void LocalSync::record_failure(ErrorKind kind, const std::string& text) {
  FailureRecord& record = members_.control().failure;
  std::uint32_t none = FailureRecord::kNone;
  if (record.state.compare_exchange_strong(none, FailureRecord::kWriting)) {
    record.kind = static_cast<std::int32_t>(kind);
    const std::size_t bytes = std::min(text.size(), kFailureTextBytes - 1);
    std::memcpy(record.text, text.data(), bytes);
    record.text[bytes] = '\0';
    record.state.store(FailureRecord::kSet, std::memory_order_release);
  }
  for (int i = 0; i < static_cast<int>(members_.ranks.size()); ++i) futex_wake_all(members_.rank(i).arrived);
}

void LocalSync::check_failure() const {
  failure_.check();
  const FailureRecord& record = members_.control().failure;
  if (record.state.load(std::memory_order_acquire) != FailureRecord::kSet) return;
  const std::string text(record.text, ::strnlen(record.text, kFailureTextBytes));
  failure_.record(static_cast<ErrorKind>(record.kind), text);
  failure_.raise();
}

void LocalSync::close() {
  RankControl& own = members_.rank(members_.index);
  own.closed.store(1, std::memory_order_seq_cst);
  futex_wake_all(own.arrived);
}

}  // namespace ddp::host
