// How an attempt ended, as all nodes of a job agree on it: the value of "agent/<attempt>/over" in their store.
//
//   store->compare_and_set(key, std::nullopt, encode({139, true, "rank 3: killed by SIGSEGV"}), deadline);
//
// Pure; any thread.
#pragma once

#include <string>

namespace ddp::launcher {

struct Verdict {
  int code = 1;       ///< what every ddprun returns if this was the last attempt; 0: succeeded
  bool again = true;  ///< whether another attempt may help
  std::string reason;
};

/// "139 again rank 3: killed by SIGSEGV"
[[nodiscard]] std::string encode(const Verdict& verdict);
/// Throws RendezvousError when another version of ddprun, or nothing of the kind, wrote `text`.
[[nodiscard]] Verdict decode_verdict(const std::string& text);

/// A whole decimal number as read from the store. Throws RendezvousError that shows it.
[[nodiscard]] int stored_number(const std::string& text);

}  // namespace ddp::launcher
