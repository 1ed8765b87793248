#include "checkpoint/commit/vote.h"

#include <charconv>
#include <exception>

#include "libddp/core/fd.h"

namespace ddp::checkpoint {
namespace {

constexpr int kOk = -1;

Ballot attempt(const std::function<std::string()>& work) {
  try {
    return {true, ErrorKind::kError, work()};
  } catch (const Error& e) {
    return {false, e.kind(), e.what()};
  } catch (const std::exception& e) {
    return {false, ErrorKind::kError, std::string(e.what()) + " (host " + host_name() + ")"};
  }
}

/// "phase\nstatus\ntext"; a phase has no line break.
std::string encode(std::string_view phase, const Ballot& ballot) {
  const int status = ballot.ok ? kOk : static_cast<int>(ballot.kind);
  return std::string(phase) + "\n" + std::to_string(status) + "\n" + ballot.text;
}

Ballot decode(std::string_view bytes, std::string_view phase, std::size_t rank) {
  const std::size_t first = bytes.find('\n');
  const std::size_t second = first == std::string_view::npos ? first : bytes.find('\n', first + 1);
  if (second == std::string_view::npos || bytes.substr(0, first) != phase)
    throw MismatchError(
        "checkpoint: rank " + std::to_string(rank) + " is at '" + std::string(bytes.substr(0, first)) +
        "', this rank at '" + std::string(phase) +
        "'; all ranks must call restore, after_step and save in the same order with the same step");
  int status = 0;
  std::from_chars(bytes.data() + first + 1, bytes.data() + second, status);
  Ballot ballot{status == kOk, ErrorKind::kError, std::string(bytes.substr(second + 1))};
  if (!ballot.ok) ballot.kind = static_cast<ErrorKind>(status);
  return ballot;
}

}  // namespace

std::vector<Ballot> poll_ranks(Group& group, std::string_view phase, Deadline deadline,
                               const std::function<std::string()>& work) {
  const auto answers = group.exchange(encode(phase, attempt(work)), deadline);
  std::vector<Ballot> ballots;
  for (std::size_t rank = 0; rank < answers.size(); ++rank)
    ballots.push_back(decode(answers[rank], phase, rank));
  return ballots;
}

void require_all(const std::vector<Ballot>& ballots, std::string_view phase) {
  for (std::size_t rank = 0; rank < ballots.size(); ++rank)
    if (!ballots[rank].ok)
      throw_error(ballots[rank].kind, "checkpoint, " + std::string(phase) + ": rank " + std::to_string(rank) +
                                          " failed: " + ballots[rank].text);
}

std::vector<std::string> vote(Group& group, std::string_view phase, Deadline deadline,
                              const std::function<std::string()>& work) {
  auto ballots = poll_ranks(group, phase, deadline, work);
  require_all(ballots, phase);
  std::vector<std::string> texts;
  for (auto& ballot : ballots) texts.push_back(std::move(ballot.text));
  return texts;
}

}  // namespace ddp::checkpoint
