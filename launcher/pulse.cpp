#include "launcher/pulse.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <ddp/error.h>

namespace ddp::launcher {
namespace {

using std::chrono::milliseconds;

std::string beat_key(int node) {
  return "agent/beat/" + std::to_string(node);
}

/// "host/17/a3f0": the process in front of "host/17/a3f0 2 41" (its second connection, 41st beat).
std::string process_of(const std::string& beat) {
  return beat.substr(0, beat.find(' '));
}

ConfigError held_by_another(int node, const std::string& beat) {
  return ConfigError("another ddprun holds --node-rank=" + std::to_string(node) + ": " + process_of(beat) +
                     " (host/pid/id); every node needs a rank of its own");
}

}  // namespace

Pulse::Pulse(const Options& options, std::shared_ptr<Store> store, std::string identity)
    : options_(options),
      store_(std::move(store)),
      interval_(std::min(milliseconds(1000), options.heartbeat_timeout / 5)),
      key_(beat_key(options.node_rank)),
      identity_(std::move(identity)),
      fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!fd_) throw Error(errno_message("cannot make an eventfd", errno));
  claim(identity_);
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Pulse::~Pulse() = default;

/// A heart that still beats is somebody else's; one that has stopped is that of a ddprun that died.
void Pulse::claim(const std::string& identity) {
  const Deadline call = Deadline::in(options_.heartbeat_timeout);
  const auto before = store_->try_get(key_, call);
  if (before && process_of(*before) != process_of(identity)) {
    for (const Deadline patience = Deadline::in(3 * interval_); !patience.passed();) {
      std::this_thread::sleep_for(interval_ / 10);
      const auto now = store_->try_get(key_, call);
      if (now != before) throw held_by_another(options_.node_rank, now.value_or(*before));
    }
  }
  last_beat_ = identity + " 0";
  const auto stored = store_->compare_and_set(
      key_, before ? std::optional<std::string_view>(*before) : std::nullopt, last_beat_, call);
  if (stored != last_beat_) throw held_by_another(options_.node_rank, stored.value_or(""));
}

void Pulse::run(const std::stop_token& stop) {
  try {
    while (!stop.stop_requested()) {
      beat();
      if (options_.node_rank == 0) look_after_others();
      listen(stop);
    }
  } catch (const TimeoutError& error) {
    const std::scoped_lock lock(mutex_);
    lost_ = std::make_exception_ptr(RendezvousError(std::string("node 0 does not answer: ") + error.what()));
  } catch (const Error&) {
    const std::scoped_lock lock(mutex_);
    lost_ = std::current_exception();
  }
  wake();
}

void Pulse::beat() {
  const std::string next = identity_ + ' ' + std::to_string(++count_);
  const auto stored =
      store_->compare_and_set(key_, last_beat_, next, Deadline::in(options_.heartbeat_timeout));
  if (stored != next) throw held_by_another(options_.node_rank, stored.value_or(""));
  last_beat_ = next;
}

void Pulse::look_after_others() {
  std::optional<int> attempt;
  {
    const std::scoped_lock lock(mutex_);
    attempt = attempt_;
  }
  // Whoever was stopped itself for a while has no right to call the others silent.
  if (Clock::now() - looked_ > options_.heartbeat_timeout / 2) others_.clear();
  looked_ = Clock::now();
  for (int node = 1; attempt && node < options_.nnodes; ++node) {
    const auto now =
        store_->try_get(beat_key(node), Deadline::in(options_.heartbeat_timeout)).value_or(std::string());
    Seen& seen = others_.try_emplace(node, Seen{now, Clock::now()}).first->second;
    if (now != seen.beat) seen = {now, Clock::now()};
    if (Clock::now() - seen.when > options_.heartbeat_timeout)
      store_->compare_and_set("agent/" + std::to_string(*attempt) + "/over", std::nullopt,
                              encode({1, true,
                                      "node " + std::to_string(node) + " has been silent for " +
                                          to_string(options_.heartbeat_timeout) +
                                          " (--heartbeat-timeout): is its machine up, its ddprun running?"}),
                              Deadline::in(options_.heartbeat_timeout));
  }
}

/// Until the next beat.
void Pulse::listen(const std::stop_token& stop) {
  const Deadline next = Deadline::in(interval_);
  std::string key;
  {
    std::unique_lock lock(mutex_);
    changed_.wait_until(lock, stop, next.at(), [this] { return attempt_.has_value(); });
    if (!attempt_) return;
    key = "agent/" + std::to_string(*attempt_) + "/over";
  }
  std::string value;
  try {
    value = store_->get(key, next);
  } catch (const TimeoutError&) {
    return;  // it goes on
  }
  Verdict verdict = decode_verdict(value);
  {
    const std::scoped_lock lock(mutex_);
    over_ = std::move(verdict);
    attempt_.reset();
  }
  wake();
}

void Pulse::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
}

void Pulse::begin(int attempt) {
  {
    const std::scoped_lock lock(mutex_);
    if (lost_) return;  // fd() stays readable
    std::uint64_t count = 0;
    [[maybe_unused]] const auto drained = ::read(fd_.get(), &count, sizeof count);
    over_.reset();
    attempt_ = attempt;
  }
  changed_.notify_all();
}

std::optional<Verdict> Pulse::over() const {
  const std::scoped_lock lock(mutex_);
  if (over_) return over_;
  if (lost_) std::rethrow_exception(lost_);
  return std::nullopt;
}

}  // namespace ddp::launcher
