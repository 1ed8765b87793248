#include "launcher/nodes.h"

#include <algorithm>
#include <chrono>
#include <sstream>

#include <ddp/error.h>
#include <ddp/log.h>

namespace ddp::launcher {
namespace {

/// How often a wait looks at signals and at the attempt's end.
constexpr std::chrono::milliseconds kSlice{100};
/// Telling node 0 something must not keep workers from being looked after.
constexpr std::chrono::seconds kTell{5};

std::string config_of(const Options& options) {
  return "--nnodes=" + std::to_string(options.nnodes) +
         " --nproc-per-node=" + std::to_string(options.nproc_per_node) +
         " --max-restarts=" + std::to_string(options.max_restarts);
}

/// "host/17/a3f0#2": without blanks, so that it can stand in a list.
std::string word(std::string identity) {
  std::replace(identity.begin(), identity.end(), ' ', '#');
  return identity;
}

Verdict used_up(int max_restarts) {
  return {1, false, "all " + std::to_string(max_restarts) + " restarts (--max-restarts) are used up"};
}

}  // namespace

Nodes::Nodes(const Options& options, std::shared_ptr<Store> store, std::string identity, Deadline deadline)
    : options_(options),
      store_(std::move(store)),
      identity_(word(identity)),
      pulse_(options, store_, std::move(identity)) {
  agree_on_options(deadline);
}

std::string Nodes::key(const std::string& name) const {
  return "agent/" + std::to_string(attempt_) + "/" + name;
}

/// Ranks are computed from these options on every node: a difference would give one rank to two workers.
void Nodes::agree_on_options(Deadline deadline) {
  const std::string mine = config_of(options_);
  if (options_.node_rank == 0) return store_->set("agent/config", mine, soon());
  const std::string theirs = store_->get("agent/config", deadline);
  if (theirs == mine) return;
  const std::string what = "node " + std::to_string(options_.node_rank) + " was started with " + mine +
                           ", node 0 with " + theirs + ": give every node the same";
  // The others need not wait for this node in vain, unless they do without it already.
  attempt_ = stored_number(store_->get("agent/current", deadline));
  if (!store_->try_get(key("go"), soon())) end_attempt({2, false, what});
  throw ConfigError(what);
}

Nodes::Joined Nodes::join(int last, std::uint16_t proposed_port, Deadline deadline,
                          const std::function<bool()>& interrupted) {
  interrupted_ = interrupted;
  while (next_attempt(last, deadline)) {
    if (attempt_ > options_.max_restarts) return {{}, used_up(options_.max_restarts)};
    if (options_.node_rank == 0) store_->set("agent/current", std::to_string(attempt_), soon());
    std::optional<std::string> go;
    if (!take_place(last)) {
      came_back();
    } else if (options_.node_rank != 0 || give_go(proposed_port, deadline)) {
      go = wait_for("go", deadline);
      if (go && !listed_in(*go)) came_back();
    }
    if (go && listed_in(*go)) {
      pulse_.begin(attempt_);
      return {Start{attempt_, static_cast<std::uint16_t>(stored_number(go->substr(0, go->find(' '))))}, {}};
    }
    if (interrupted_()) return {};
    const Verdict verdict = decode_verdict(store_->get(key("over"), soon()));
    if (!verdict.again || attempt_ >= options_.max_restarts) return {{}, verdict};
  }
  return {};
}

/// False when interrupted.
bool Nodes::next_attempt(int last, Deadline deadline) {
  if (options_.node_rank == 0) {
    const int next = next_.value_or(std::max(attempt_, last) + 1);
    if (attempt_ >= 0) store_->set(key("next"), std::to_string(next), soon());
    next_.reset();
    attempt_ = next;
    return true;
  }
  while (!interrupted_()) {
    (void)pulse_.over();  // throws when node 0 is lost
    try {
      const std::string name = attempt_ < 0 ? "agent/current" : key("next");
      const int next = stored_number(store_->get(name, Deadline::in(kSlice)));
      if (next < 0) throw RendezvousError("node 0 has ended");
      attempt_ = next;
      return true;
    } catch (const TimeoutError&) {
      deadline.check("waiting for node 0 to begin the next attempt (is its ddprun running?)");
    }
  }
  return false;
}

/// False when the attempt runs already, without this node.
bool Nodes::take_place(int last) {
  const std::string place = key("here/" + std::to_string(options_.node_rank));
  const auto before = store_->try_get(place, soon());
  const std::string mine = identity_ + ' ' + std::to_string(last);
  const auto stored = store_->compare_and_set(
      place, before ? std::optional<std::string_view>(*before) : std::nullopt, mine, soon());
  if (stored != mine)
    throw ConfigError("another ddprun took the place of node " + std::to_string(options_.node_rank) +
                      " at the same time: " + stored.value_or("") + "; every node needs a rank of its own");
  const auto go = store_->try_get(key("go"), soon());
  return !go || listed_in(*go);
}

void Nodes::came_back() {
  end_attempt(
      {1, true,
       "the ddprun of node " + std::to_string(options_.node_rank) + " was restarted, or had lost contact"});
}

/// The key's value; nullopt when interrupted or when the attempt ended first.
std::optional<std::string> Nodes::wait_for(const std::string& name, Deadline deadline) {
  while (!interrupted_()) {
    (void)pulse_.over();  // throws when node 0 is lost
    try {
      return store_->get(key(name), Deadline::in(kSlice));
    } catch (const TimeoutError&) {
      if (store_->try_get(key("over"), soon())) return std::nullopt;
      if (!deadline.passed()) continue;
      const std::string what = missing() + " did not join attempt " + std::to_string(attempt_) + " within " +
                               to_string(options_.join_timeout) +
                               " (--join-timeout): is ddprun running there, with the right --node-rank?";
      end_attempt({1, false, what});
      throw TimeoutError(what);
    }
  }
  return std::nullopt;
}

/// "node 2" or "node 2, 5 and 4 more of 8".
std::string Nodes::missing() const {
  std::vector<int> absent;
  for (int node = 0; node < options_.nnodes; ++node)
    if (!store_->try_get(key("here/" + std::to_string(node)), soon())) absent.push_back(node);
  if (absent.empty()) return "node 0";  // all are here, but nobody says go
  std::string text = "node " + std::to_string(absent[0]);
  for (std::size_t i = 1; i < std::min<std::size_t>(absent.size(), 8); ++i)
    text += ", " + std::to_string(absent[i]);
  if (absent.size() > 8) text += " and " + std::to_string(absent.size() - 8) + " more";
  return text + " of " + std::to_string(options_.nnodes);
}

/// Node 0's part of step 3. False when there will be no go: interrupted, ended, or an attempt was skipped.
bool Nodes::give_go(std::uint16_t port, Deadline deadline) {
  for (int node = 0; node < options_.nnodes; ++node)
    if (!wait_for("here/" + std::to_string(node), deadline)) return false;
  // Read again: a ddprun that was restarted while others were awaited has taken over its place.
  std::string go = std::to_string(port);
  int latest = -1;
  for (int node = 0; node < options_.nnodes; ++node) {
    const std::string here = store_->get(key("here/" + std::to_string(node)), soon());
    const auto blank = here.find(' ');
    go += ' ' + here.substr(0, blank);
    if (node > 0) latest = std::max(latest, stored_number(here.substr(blank + 1)));
  }
  if (latest < attempt_) return store_->compare_and_set(key("go"), std::nullopt, go, soon()).has_value();
  next_ = latest + 1;
  const bool left = *next_ <= options_.max_restarts;
  end_attempt(left ? Verdict{1, true, "node 0 was restarted"} : used_up(options_.max_restarts));
  return false;
}

bool Nodes::listed_in(const std::string& go) const {
  std::istringstream words(go);
  std::string entry;
  for (int i = -2; i < options_.node_rank && words >> entry;) ++i;
  return entry == identity_;
}

void Nodes::end_attempt(const Verdict& verdict) {
  if (attempt_ < 0) return;
  try {
    store_->compare_and_set(key("over"), std::nullopt, encode(verdict), Deadline::in(kTell));
  } catch (const Error& error) {
    log::warn("cannot tell the other nodes how this attempt ended", {{"why", error.what()}});
  }
}

void Nodes::leave() {
  try {
    if (options_.node_rank == 0 && attempt_ >= 0) store_->set(key("next"), "-1", Deadline::in(kTell));
  } catch (const Error& error) {
    log::debug("cannot tell the other nodes that this one ends", {{"why", error.what()}});
  }
}

void Nodes::report_success() {
  try {
    if (store_->add(key("done"), 1, Deadline::in(kTell)) == options_.nnodes)
      end_attempt({0, false, "all workers returned 0"});
  } catch (const Error& error) {
    log::warn("cannot tell the other nodes that this one has succeeded", {{"why", error.what()}});
  }
}

}  // namespace ddp::launcher
