#include "libddp/comm/host/tcp/roster.h"

#include <charconv>
#include <chrono>

#include <ddp/error.h>

namespace ddp::host {
namespace {

constexpr const char* kVersion = "ddp-tcp-2";
constexpr std::size_t kLongestLine = 512;

std::string key_of(int rank) {
  return "tcp/" + std::to_string(rank);
}

/// Takes the next line off `rest`.
std::string take_line(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  if (end == std::string_view::npos || end > kLongestLine) return {};
  std::string line(rest.substr(0, end));
  rest.remove_prefix(end + 1);
  return line;
}

int take_number(std::string_view& rest, int least, int most) {
  const std::string line = take_line(rest);
  int value = least - 1;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  if (error != std::errc() || end != line.data() + line.size() || value < least || value > most)
    throw RendezvousError("not a number from " + std::to_string(least) + " to " + std::to_string(most));
  return value;
}

std::string missing_ranks(Store& store, int first, int world_size) {
  std::string text;
  const Deadline soon = Deadline::in(std::chrono::seconds(2));
  for (int rank = first; rank < world_size; ++rank) {
    bool here = false;
    try {
      here = rank != first && store.try_get(key_of(rank), soon).has_value();
    } catch (const TimeoutError&) {
      return text + " and maybe others";  // the store itself is slow: name at least the first
    }
    if (!here) text += (text.empty() ? "" : ", ") + std::to_string(rank);
  }
  return text;
}

}  // namespace

std::string encode(const RosterEntry& entry) {
  return std::string(kVersion) + "\n" + entry.endpoint.address + "\n" + std::to_string(entry.endpoint.port) +
         "\n" + std::to_string(entry.streams) + "\n" + entry.nonce + "\n" + std::to_string(entry.name.pid) +
         "\n" + entry.name.host + "\n";
}

RosterEntry decode_entry(const std::string& text, int rank) {
  try {
    std::string_view rest = text;
    if (take_line(rest) != kVersion) throw RendezvousError("another version of libddp, or not libddp");
    RosterEntry entry;
    entry.endpoint.address = take_line(rest);
    entry.endpoint.port = static_cast<std::uint16_t>(take_number(rest, 1, 65'535));
    entry.streams = take_number(rest, 1, 16);
    entry.nonce = take_line(rest);
    entry.name = {rank, {}, take_number(rest, 0, 1 << 30)};
    entry.name.host = take_line(rest);
    return entry;
  } catch (const RendezvousError& error) {
    throw RendezvousError("the address that rank " + std::to_string(rank) + " published as '" + key_of(rank) +
                          "' makes no sense: " + error.what());
  }
}

std::vector<RosterEntry> exchange_roster(const RosterEntry& own, int world_size, Store& store,
                                         Deadline deadline) {
  store.set(key_of(own.name.rank), encode(own), deadline);
  std::vector<RosterEntry> roster;
  for (int rank = 0; rank < world_size; ++rank) {
    try {
      roster.push_back(rank == own.name.rank ? own : decode_entry(store.get(key_of(rank), deadline), rank));
    } catch (const TimeoutError& error) {
      throw TimeoutError(describe(own.name) + " waited " + to_string(deadline.timeout()) +
                         " for the others to publish their TCP addresses; missing: rank " +
                         missing_ranks(store, rank, world_size) + " of " + std::to_string(world_size) + " (" +
                         error.what() + ")");
    }
    if (roster.back().streams != own.streams)
      throw ConfigError(describe(roster.back().name) + " uses " + std::to_string(roster.back().streams) +
                        " TCP streams, " + describe(own.name) + " uses " + std::to_string(own.streams) +
                        ": give all ranks the same number");
  }
  return roster;
}

}  // namespace ddp::host
