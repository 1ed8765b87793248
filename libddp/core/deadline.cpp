#include <ddp/deadline.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include <ddp/error.h>

namespace ddp {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

Deadline Deadline::in(nanoseconds timeout) {
  const auto now = Clock::now();
  const bool overflows = timeout > nanoseconds(0) && timeout >= Clock::time_point::max() - now;
  return Deadline(overflows ? Clock::time_point::max() : now + timeout, timeout);
}

nanoseconds Deadline::remaining() const {
  if (at_ == Clock::time_point::max()) return nanoseconds::max();
  return std::max(nanoseconds(0), nanoseconds(at_ - Clock::now()));
}

int Deadline::remaining_ms(int cap) const {
  const auto left = remaining();
  if (left >= milliseconds(cap)) return cap;
  return static_cast<int>(std::chrono::ceil<milliseconds>(left).count());
}

void Deadline::check(std::string_view what) const {
  if (passed()) throw TimeoutError("timed out after " + to_string(timeout_) + ": " + std::string(what));
}

std::string to_string(nanoseconds duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  char text[48];
  if (seconds >= 120)
    std::snprintf(text, sizeof text, "%.4g min", seconds / 60);
  else if (seconds >= 1 || seconds <= 0)
    std::snprintf(text, sizeof text, "%.4g s", seconds);
  else if (seconds >= 1e-3)
    std::snprintf(text, sizeof text, "%.4g ms", seconds * 1e3);
  else
    std::snprintf(text, sizeof text, "%.4g us", seconds * 1e6);
  return text;
}

}  // namespace ddp
