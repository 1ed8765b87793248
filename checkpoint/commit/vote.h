// Ranks do a piece of work each and agree on how it went: no rank goes on while another failed, none waits
// for ever. One exchange a vote; it carries a few hundred bytes a rank and names who failed.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <ddp/deadline.h>
#include <ddp/error.h>
#include <ddp/group.h>

namespace ddp::checkpoint {

/// How a rank's work ended.
struct Ballot {
  bool ok = true;
  ErrorKind kind = ErrorKind::kError;
  std::string text;  ///< what the work returned, or its error message
};

/// Runs `work`, catches what it throws, and returns every rank's outcome, in rank order, the same everywhere.
/// Throws MismatchError when the ranks are not at the same `phase`, and what Group::exchange throws.
[[nodiscard]] std::vector<Ballot> poll_ranks(Group& group, std::string_view phase, Deadline deadline,
                                             const std::function<std::string()>& work);

/// As poll_ranks(), but when any rank failed, all throw the error of the first one, with its rank in front.
[[nodiscard]] std::vector<std::string> vote(Group& group, std::string_view phase, Deadline deadline,
                                            const std::function<std::string()>& work);

/// Throws as vote() does.
void require_all(const std::vector<Ballot>& ballots, std::string_view phase);

}  // namespace ddp::checkpoint
