#include "launcher/nodes.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <map>

#include <ddp/error.h>
#include <ddp/log.h>

namespace ddp::launcher {
namespace {

using std::chrono::seconds;

constexpr seconds kBeat{1};
constexpr seconds kCall{30};  // of a call that waits for nobody

int to_int(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw RendezvousError("the store of this job holds '" + text.substr(0, 40) +
                          "' where a number should be");
  return value;
}

}  // namespace

Nodes::Nodes(const Options& options, std::shared_ptr<Store> store)
    : options_(options), store_(std::move(store)) {
  heart_ = std::jthread([this](const std::stop_token& stop) {
    std::map<int, std::pair<std::string, Clock::time_point>> beats;
    try {
      while (!stop.stop_requested()) {
        store_->add("agent/beat/" + std::to_string(options_.node_rank), 1, Deadline::in(kCall));
        if (options_.node_rank == 0) {
          for (int node = 1; node < options_.nnodes; ++node) {
            const auto now = store_->try_get("agent/beat/" + std::to_string(node), Deadline::in(kCall));
            auto& [last, when] = beats.try_emplace(node, "", Clock::now()).first->second;
            if (now && *now != last) last = *now, when = Clock::now();
            if (!last.empty() && Clock::now() - when > options_.heartbeat_timeout)
              store_->compare_and_set(
                  "agent/" + store_->try_get("agent/current", Deadline::in(kCall)).value_or("0") + "/over",
                  std::nullopt,
                  "1 node " + std::to_string(node) + " has been silent for " +
                      to_string(options_.heartbeat_timeout),
                  Deadline::in(kCall));
          }
        }
        for (const Deadline pause = Deadline::in(kBeat); !stop.stop_requested() && !pause.passed();)
          std::this_thread::sleep_for(
              std::min<std::chrono::nanoseconds>(pause.remaining(), std::chrono::milliseconds(50)));
      }
    } catch (const Error&) {
      return;  // the watcher finds out too, and says so
    }
  });
}

Nodes::~Nodes() {
  heart_.request_stop();
  if (watcher_.joinable()) {
    try {  // ends the watcher's wait
      end_attempt("1 node " + std::to_string(options_.node_rank) + " left");
    } catch (const Error&) {
      log::debug("the store is gone already");
    }
  }
}

std::string Nodes::key(const std::string& name) const {
  return "agent/" + std::to_string(attempt_) + "/" + name;
}

Nodes::Start Nodes::join(std::uint16_t proposed_port) {
  const Deadline deadline = Deadline::in(options_.join_timeout);
  const std::string me = std::to_string(options_.node_rank);
  if (attempt_ < 0 && options_.node_rank != 0) attempt_ = to_int(store_->get("agent/current", deadline)) - 1;
  for (;;) {
    ++attempt_;
    if (attempt_ > options_.max_restarts)
      throw PeerFailure("all " + std::to_string(options_.max_restarts) + " restarts are used up");
    if (options_.node_rank == 0) store_->set("agent/current", std::to_string(attempt_), deadline);
    if (!store_->compare_and_set(key("here/" + me), std::nullopt, "taken", deadline).has_value()) continue;
    if (store_->add(key("count/" + me), 1, deadline) == 1) break;
    // This node was in that attempt already: its ddprun has been restarted.
    store_->compare_and_set(key("over"), std::nullopt, "1 the ddprun of node " + me + " was restarted",
                            deadline);
  }
  if (options_.node_rank == 0) store_->set(key("port"), std::to_string(proposed_port), deadline);
  for (int node = 0; node < options_.nnodes; ++node) {
    try {
      store_->wait(key("here/" + std::to_string(node)), deadline);
    } catch (const TimeoutError&) {
      throw TimeoutError("node " + std::to_string(node) + " of " + std::to_string(options_.nnodes) +
                         " did not join attempt " + std::to_string(attempt_) + " within " +
                         to_string(deadline.timeout()) + ": is its ddprun running?");
    }
  }
  const int port = to_int(store_->get(key("port"), deadline));
  over_fd_ = FileDescriptor(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!over_fd_) throw Error(errno_message("cannot make an eventfd", errno));
  over_.clear();
  watcher_ = std::jthread([this] { watch(); });
  return {attempt_, static_cast<std::uint16_t>(port)};
}

/// Waits in slices, because a store call must have a deadline and an attempt may last for weeks.
void Nodes::watch() {
  for (;;) {
    try {
      over_ = store_->get(key("over"), Deadline::in(std::chrono::hours(1)));
      break;
    } catch (const TimeoutError&) {
      continue;
    } catch (const Error& error) {
      log::warn("the store of node 0 is lost", {{"why", error.what()}});
      break;
    }
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(over_fd_.get(), &one, sizeof one);
}

void Nodes::end_attempt(const std::string& value) {
  store_->compare_and_set(key("over"), std::nullopt, value, Deadline::in(kCall));
}

void Nodes::report_failure(const std::string& reason, int code) {
  try {
    end_attempt(std::to_string(code) + " " + reason);
  } catch (const Error& error) {
    log::warn("cannot tell the other nodes about the failure", {{"why", error.what()}});
  }
}

void Nodes::report_success() {
  if (store_->add(key("done"), 1, Deadline::in(kCall)) == options_.nnodes) end_attempt("0 succeeded");
}

Nodes::Verdict Nodes::verdict() {
  watcher_.join();
  if (over_.empty()) return {false, true, 1, "the connection to node 0 is lost"};
  const auto space = over_.find(' ');
  const int code = to_int(over_.substr(0, space));
  return {code == 0, false, code, space == std::string::npos ? "" : over_.substr(space + 1)};
}

}  // namespace ddp::launcher
