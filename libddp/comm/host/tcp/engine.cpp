#include "libddp/comm/host/tcp/engine.h"

#include <sched.h>

#include <chrono>

#include <ddp/error.h>

namespace ddp::host {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// Longer than a loopback round trip, shorter than what poll() and a context switch cost.
constexpr auto kSpin = microseconds(30);
constexpr auto kLookEvery = milliseconds(10);
constexpr int kPollMs = 20;

void take_failure(Mesh& mesh, Failure& failure, const Peer& peer) {
  const auto& told = peer.control->failure();
  if (!told) return;
  if (failure.record(told->kind, told->text)) mesh.heard_failure = true;
  failure.raise();
}

std::string broken(int error) {
  if (error == 0) return "its data connection was closed";
  return errno_message("its data connection broke", error);
}

void read_link(Peer& peer, const std::string& during) {
  try {
    peer.control->read();
  } catch (const Error& error) {
    throw Error(describe(peer.name) + " " + error.what() + during +
                ": another program on its port, or a broken network device?");
  }
}

/// A rank that saw why another one died says so before it leaves: its reason comes first.
void hear_everybody(Mesh& mesh, Failure& failure, const std::string& during) {
  for (const auto& peer : mesh.peers) {
    if (!peer) continue;
    read_link(*peer, during);
    take_failure(mesh, failure, *peer);
  }
}

[[noreturn]] void throw_lost(const RankName& me, const Peer& peer, const std::string& how,
                             const std::string& during) {
  const std::string why = peer.control->left() ? "it left: its program ended or gave the communicator up"
                                               : how + " (did it crash, was it killed, or its host cut off?)";
  throw PeerFailure(describe(me) + " lost " + describe(peer.name) + during + ": " + why);
}

}  // namespace

void hear_failures(Mesh& mesh, Failure& failure, Peer& peer, const std::string& during) {
  read_link(peer, during);
  take_failure(mesh, failure, peer);
  if (!peer.control->closed() || peer.control->left()) return;
  hear_everybody(mesh, failure, during);
  throw_lost(mesh.me, peer, peer.control->close_reason(), during);
}

void report_waiting(const Mesh& mesh, wire::Frame frame, int rank) {
  frame.type = wire::FrameType::kWaiting;
  frame.peer = rank;
  frame.payload = 0;
  for (const auto& peer : mesh.peers)
    if (peer) peer->control->send(frame, {});
}

std::string follow_reports(const Mesh& mesh, const wire::Frame& frame, int rank) {
  return comm::follow_reports(
      frame, rank,
      {mesh.me.rank, mesh.size(), [&](int r) { return mesh.peer(r).control->waiting(); },
       [&](int r) { return mesh.peer(r).name; }});
}

Engine::Engine(Mesh& mesh, Failure& failure, int wake, const Operation& operation, std::uint64_t digest,
               const TcpGroup::Check& check)
    : mesh_(mesh),
      failure_(failure),
      wake_(wake),
      operation_(operation),
      frame_(wire::frame_of(operation, digest)),
      check_(check),
      report_at_(Clock::now() + operation.deadline.remaining() / 2),
      moved_at_(Clock::now()),
      looked_at_(moved_at_) {}

void Engine::drive(Exchange& exchange) {
  exchange_ = &exchange;
  talks_ = exchange.talks();
  for (const auto& talk : talks_) {
    Peer& peer = mesh_.peer(talk.rank);
    peer.agreed = false;
    peer.data.begin();
    wire::Frame frame = frame_;
    frame.payload = static_cast<std::uint32_t>(talk.payload.size());
    peer.control->send(frame, talk.payload);
  }
  exchange.start(*this);
  for (;;) {
    const bool heard = exchange_frames();
    const bool moved = move_data();
    if (complete()) break;
    const auto now = Clock::now();
    if (heard || moved) moved_at_ = now;
    if (now - looked_at_ >= kLookEvery) look_around();
    if (heard || moved) continue;
    if (now - moved_at_ < kSpin)
      ::sched_yield();
    else
      wait();
  }
  exchange.finish();
}

bool Engine::exchange_frames() {
  bool any = false;
  for (const auto& talk : talks_) {
    Peer& peer = mesh_.peer(talk.rank);
    if (peer.agreed) continue;
    if (peer.control->inbox().empty()) read_control(peer);
    if (!peer.control->inbox().empty()) {
      agree(peer, talk);
      any = true;
    } else if (peer.control->left() && peer.control->closed()) {
      lost(peer, "");
    }
  }
  return any;
}

void Engine::agree(Peer& peer, const Exchange::Talk& talk) {
  Heard heard = std::move(peer.control->inbox().front());
  peer.control->inbox().pop_front();
  if (const auto text = wire::disagreement(frame_, mesh_.me, heard.frame, peer.name))
    throw MismatchError(*text);
  if (heard.payload.size() != talk.expected)
    throw Error(describe(peer.name) + " sent " + std::to_string(heard.payload.size()) +
                " bytes with its frame where " + std::to_string(talk.expected) + " were due, " + here());
  peer.agreed = true;
  exchange_->heard(talk.rank, heard);
}

bool Engine::move_data() {
  bool any = false;
  for (const auto& talk : talks_) {
    Peer& peer = mesh_.peer(talk.rank);
    for (int stream = 0; stream < mesh_.streams; ++stream) {
      any |= receive_from(peer, stream);
      any |= send_to(peer, stream);
    }
  }
  return any;
}

bool Engine::receive_from(Peer& peer, int stream) {
  if (!peer.agreed || !peer.data.receiving()) return false;
  Part part;
  Moved moved = Moved::kNothing;
  try {
    moved = peer.data.pull(stream, part);
    if (moved == Moved::kNeedsPlace) {
      if (!exchange_->place(peer.data.arriving(stream))) return false;
      moved = peer.data.pull(stream, part);
    }
  } catch (const Error& error) {
    throw Error(describe(peer.name) + " " + error.what() + "; " + here());
  }
  if (moved == Moved::kClosed) lost(peer, broken(peer.data.error()));
  if (moved == Moved::kWholePart) exchange_->received(*this, part);
  return moved != Moved::kNothing;
}

bool Engine::send_to(Peer& peer, int stream) {
  if (!peer.data.sending()) return false;
  Part part;
  const Moved moved = peer.data.push(stream, part);
  if (moved == Moved::kClosed) lost(peer, broken(peer.data.error()));
  if (moved == Moved::kWholePart) exchange_->sent(part);
  return moved != Moved::kNothing;
}

bool Engine::complete() {
  for (const auto& talk : talks_) {
    Peer& peer = mesh_.peer(talk.rank);
    if (!peer.agreed || peer.data.sending() || peer.data.receiving()) return false;
  }
  bool flushed = true;
  for (const auto& talk : talks_) flushed &= mesh_.peer(talk.rank).control->flush();
  return flushed;
}

void Engine::wait() {
  failure_.check();
  check_();
  if (Clock::now() >= report_at_) {
    report_at_ = Clock::time_point::max();
    report_waiting(mesh_, frame_, waits_for());
  }
  polled_.assign(1, {wake_, POLLIN, 0});
  for (const auto& peer : mesh_.peers) {
    if (!peer) continue;
    if (!peer->control->closed()) polled_.push_back({peer->control->fd(), POLLIN, 0});
  }
  for (const auto& talk : talks_) {
    Peer& peer = mesh_.peer(talk.rank);
    if (!peer.control->flush()) polled_.push_back({peer.control->fd(), POLLOUT, 0});
    for (int stream = 0; stream < mesh_.streams; ++stream) {
      short events = peer.data.events(stream);
      if (!peer.agreed) events &= POLLOUT;
      if (events != 0) polled_.push_back({peer.data.fd(stream), events, 0});
    }
  }
  (void)::poll(polled_.data(), polled_.size(), operation_.deadline.remaining_ms(kPollMs));
  look_around();
}

void Engine::look_around() {
  looked_at_ = Clock::now();
  failure_.check();
  check_();
  for (const auto& peer : mesh_.peers)
    if (peer && !peer->control->closed()) read_control(*peer);
  if (operation_.deadline.passed()) time_out();
}

void Engine::read_control(Peer& peer) {
  hear_failures(mesh_, failure_, peer, " in " + describe(operation_));
}

void Engine::lost(Peer& peer, const std::string& how) {
  hear_everybody(mesh_, failure_, " in " + describe(operation_));
  throw_lost(mesh_.me, peer, how, " in " + describe(operation_));
}

int Engine::waits_for() {
  for (const auto& talk : talks_)
    if (!mesh_.peer(talk.rank).agreed) return talk.rank;
  for (const auto& talk : talks_)
    if (mesh_.peer(talk.rank).data.receiving()) return talk.rank;
  for (const auto& talk : talks_)
    if (mesh_.peer(talk.rank).data.sending()) return talk.rank;
  return talks_.empty() ? -1 : talks_.front().rank;  // its socket does not even take a frame
}

void Engine::time_out() {
  const int rank = waits_for();
  std::string text = "timed out after " + to_string(operation_.deadline.timeout()) + ": " + here() +
                     " waits for " + describe(mesh_.peer(rank).name) +
                     (mesh_.peer(rank).agreed ? " to move its data" : " to begin it too");
  // A rank that waits itself is not the one to look at.
  text += follow_reports(mesh_, frame_, rank);
  throw TimeoutError(text + " (is it stopped, stuck or slow?)");
}

std::string Engine::here() const {
  return describe(mesh_.me) + " in " + describe(operation_);
}

}  // namespace ddp::host
