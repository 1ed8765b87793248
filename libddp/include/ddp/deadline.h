// Points in time after which a wait gives up. Every blocking call of libddp takes one, directly or as a
// timeout in its options.
//
//   Deadline deadline = Deadline::in(std::chrono::seconds(30));
//   while (!ready()) { deadline.check("waiting for rank 3's address"); poll(deadline.remaining()); }
//
// Deadlines are values and may be used from any thread. They count on the steady clock: setting the wall
// clock does not move them.
#pragma once

#include <chrono>
#include <string_view>

namespace ddp {

using Clock = std::chrono::steady_clock;

class Deadline {
 public:
  /// `timeout` from now; a negative one has already passed. Very large timeouts are capped, never wrapped.
  [[nodiscard]] static Deadline in(std::chrono::nanoseconds timeout);
  /// Never passes. For loops that somebody else ends; not for waits on a peer.
  [[nodiscard]] static Deadline never() {
    return Deadline(Clock::time_point::max(), std::chrono::nanoseconds::max());
  }

  [[nodiscard]] bool passed() const { return Clock::now() >= at_; }
  /// Time left, never negative.
  [[nodiscard]] std::chrono::nanoseconds remaining() const;
  /// Time left in whole milliseconds, rounded up and capped at `cap`: the argument poll() wants.
  [[nodiscard]] int remaining_ms(int cap = 1 << 30) const;
  [[nodiscard]] Clock::time_point at() const { return at_; }
  /// The timeout this deadline was made with: what an error message shows.
  [[nodiscard]] std::chrono::nanoseconds timeout() const { return timeout_; }
  /// The earlier of the two.
  [[nodiscard]] Deadline min(const Deadline& other) const { return at_ <= other.at_ ? *this : other; }
  /// Throws TimeoutError("timed out after 30 s: <what>") once passed.
  void check(std::string_view what) const;

 private:
  Deadline(Clock::time_point at, std::chrono::nanoseconds timeout) : at_(at), timeout_(timeout) {}
  Clock::time_point at_;
  std::chrono::nanoseconds timeout_;
};

/// "1.5 s", "20 ms", "10 min": for messages.
[[nodiscard]] std::string to_string(std::chrono::nanoseconds duration);

}  // namespace ddp
