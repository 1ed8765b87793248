#include "libddp/comm/host/tcp/tcp_group.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <numeric>

#include <ddp/error.h>

#include "libddp/comm/exchange/plan.h"
#include "libddp/comm/host/tcp/engine.h"
#include "libddp/comm/host/tcp/messages.h"
#include "libddp/comm/kernels/reduce_kernels.h"
#include "libddp/comm/operation.h"

namespace ddp::host {

class TcpGroup::Impl {
 public:
  Impl(std::unique_ptr<Mesh> mesh, Failure& failure)
      : owner_(std::move(mesh)),
        mesh_(*owner_),
        failure_(failure),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        messages_(mesh_, wake_.get()) {
    if (!wake_) throw Error(errno_message("cannot make an eventfd", errno));
  }
  ~Impl() { say_goodbye(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void run(const Operation& data, Team team, const Operation& of, std::uint64_t digest, const Check& check);
  void run_message(const Operation& operation, const Check& check);
  void fail(ErrorKind kind, const std::string& text);
  void poll_failures(const std::string& during);
  void check_peer(int rank);
  void while_waiting(const Operation& operation, int rank);
  [[nodiscard]] std::string behind(const Operation& operation, int rank);
  [[nodiscard]] const Mesh& mesh() const { return mesh_; }
  [[nodiscard]] Team everybody() const;
  [[nodiscard]] Team subset(std::span<const int> ranks) const;

 private:
  template <class Body>
  void guarded(Body body);
  void tell(ErrorKind kind, const std::string& text);
  void say_goodbye() noexcept;

  void hear_all(const std::string& during);

  std::unique_ptr<Mesh> owner_;
  Mesh& mesh_;
  Failure& failure_;
  FileDescriptor wake_;
  std::atomic<bool> told_{false};
  std::uint64_t reported_ =
      0;  ///< sequence number of the last operation whose wait was told by while_waiting()
  Slots slots_;
  Messages messages_;
};

Team TcpGroup::Impl::everybody() const {
  Team team;
  team.ranks.resize(static_cast<std::size_t>(mesh_.size()));
  std::iota(team.ranks.begin(), team.ranks.end(), 0);
  team.me = mesh_.me.rank;
  return team;
}

Team TcpGroup::Impl::subset(std::span<const int> ranks) const {
  const auto me = std::find(ranks.begin(), ranks.end(), mesh_.me.rank);
  const bool known =
      std::all_of(ranks.begin(), ranks.end(), [&](int r) { return r >= 0 && r < mesh_.size(); });
  const bool ascending = std::is_sorted(ranks.begin(), ranks.end()) &&
                         std::adjacent_find(ranks.begin(), ranks.end()) == ranks.end();
  if (me == ranks.end() || !known || !ascending)
    throw Error("all_reduce_among: the ranks must be ascending, exist, and include this one");
  return {{ranks.begin(), ranks.end()}, static_cast<int>(me - ranks.begin())};
}

/// Whatever ends an operation early is recorded, told to the peers, and thrown as the first failure.
template <class Body>
void TcpGroup::Impl::guarded(Body body) {
  failure_.check();
  try {
    body();
  } catch (const Error& error) {
    failure_.record(error.kind(), error.what());
    if (!mesh_.heard_failure) tell(failure_.kind(), failure_.text());
    failure_.raise();
  } catch (const std::exception& error) {
    fail(ErrorKind::kError, error.what());
    throw;
  }
}

void TcpGroup::Impl::run(const Operation& data, Team team, const Operation& of, std::uint64_t digest,
                         const Check& check) {
  guarded([&] {
    if (team.size() == 1) return run_alone(data);
    const std::lock_guard reading(mesh_.reading);
    slots_.trim();
    const auto exchange = plan(data, std::move(team), mesh_.streams, slots_);
    Engine(mesh_, failure_, wake_.get(), of, digest, check).drive(*exchange);
  });
}

void TcpGroup::Impl::run_message(const Operation& operation, const Check& check) {
  const std::string during = " in " + describe(operation);
  guarded([&] {
    const auto look_around = [&] {
      failure_.check();
      check();
      // Who holds it looks around itself.
      if (const std::unique_lock reading(mesh_.reading, std::try_to_lock); reading) hear_all(during);
    };
    operation.kind == OpKind::kSend ? messages_.send(operation, look_around)
                                    : messages_.recv(operation, look_around);
  });
}

void TcpGroup::Impl::fail(ErrorKind kind, const std::string& text) {
  failure_.record(kind, text);
  tell(kind, text);
  const std::uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void TcpGroup::Impl::tell(ErrorKind kind, const std::string& text) {
  if (told_.exchange(true)) return;
  wire::Frame frame;
  frame.type = wire::FrameType::kFailure;
  frame.kind = static_cast<std::uint8_t>(kind);
  const std::size_t size = std::min(text.size(), wire::kLongestText);
  frame.payload = static_cast<std::uint32_t>(size);
  for (const auto& peer : mesh_.peers)
    if (peer) peer->control->send(frame, std::as_bytes(std::span(text.data(), size)));
}

/// Needs `reading`.
void TcpGroup::Impl::hear_all(const std::string& during) {
  for (const auto& peer : mesh_.peers)
    if (peer && !peer->control->closed()) hear_failures(mesh_, failure_, *peer, during);
}

void TcpGroup::Impl::poll_failures(const std::string& during) {
  guarded([&] {
    const std::lock_guard reading(mesh_.reading);
    hear_all(during);
  });
}

void TcpGroup::Impl::while_waiting(const Operation& operation, int rank) {
  poll_failures(" in " + describe(operation));
  if (reported_ == operation.sequence || operation.deadline.remaining() > operation.deadline.timeout() / 2)
    return;
  reported_ = operation.sequence;
  report_waiting(mesh_, wire::frame_of(operation, 0), rank);
}

std::string TcpGroup::Impl::behind(const Operation& operation, int rank) {
  const std::lock_guard reading(mesh_.reading);
  return follow_reports(mesh_, wire::frame_of(operation, 0), rank);
}

void TcpGroup::Impl::check_peer(int rank) {
  guarded([&] {
    const std::lock_guard reading(mesh_.reading);
    hear_all("");
    const Peer& peer = mesh_.peer(rank);
    if (peer.control->left())
      throw PeerFailure(describe(mesh_.me) + ": " + describe(peer.name) + " has closed its communicator");
  });
}

void TcpGroup::Impl::say_goodbye() noexcept {
  try {
    if (failure_.recorded()) tell(failure_.kind(), failure_.text());
    wire::Frame frame;
    frame.type = wire::FrameType::kGoodbye;
    for (const auto& peer : mesh_.peers)
      if (peer && !told_) peer->control->send(frame, {});
    for (const auto& peer : mesh_.peers)
      if (peer) peer->control->flush();
  } catch (...) {
    // Out of memory: the peers see the connections close, which is enough.
  }
}

TcpGroup::TcpGroup(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TcpGroup::~TcpGroup() = default;

std::unique_ptr<TcpGroup> TcpGroup::connect(const TcpOptions& options, Store& store, Failure& failure,
                                            Deadline deadline) {
  auto impl = std::make_unique<Impl>(connect_mesh(options, store, failure, deadline), failure);
  return std::unique_ptr<TcpGroup>(new TcpGroup(std::move(impl)));
}

void TcpGroup::run(const Operation& operation, const Check& check) {
  const bool pair = is_point_to_point(operation.kind);
  Team team = impl_->everybody();
  if (pair && (operation.peer < 0 || operation.peer >= team.size() || operation.peer == team.me))
    throw Error(std::string(to_string(operation.kind)) + ": there is no peer " +
                std::to_string(operation.peer));
  if (pair) return impl_->run_message(operation, check);
  impl_->run(operation, std::move(team), operation, wire::digest_of_counts(operation), check);
}

void TcpGroup::all_reduce_among(std::span<const int> ranks, void* data, std::size_t count, DType dtype,
                                ReduceOp op, const Operation& of, const Check& check) {
  Operation inner = of;
  inner.kind = OpKind::kAllReduce;
  inner.dtype = dtype;
  inner.op = op;
  inner.input = inner.output = data;
  inner.count = count;
  std::vector<std::uint64_t> agreed(ranks.begin(), ranks.end());
  agreed.insert(agreed.end(), {count, static_cast<std::uint64_t>(dtype), static_cast<std::uint64_t>(op)});
  impl_->run(inner, impl_->subset(ranks), of, wire::digest_of(agreed), check);
}

void TcpGroup::fail(ErrorKind kind, const std::string& text) {
  impl_->fail(kind, text);
}
void TcpGroup::poll_failures() {
  impl_->poll_failures("");
}

void TcpGroup::while_waiting(const Operation& operation, int rank) {
  impl_->while_waiting(operation, rank);
}
std::string TcpGroup::behind(const Operation& operation, int rank) const {
  return impl_->behind(operation, rank);
}

void TcpGroup::check_peer(int rank) {
  impl_->check_peer(rank);
}

std::vector<int> TcpGroup::descriptors() const {
  std::vector<int> result;
  for (const auto& peer : impl_->mesh().peers) {
    if (!peer) continue;
    result.push_back(peer->control->fd());
    for (int stream = 0; stream < peer->data.streams(); ++stream) result.push_back(peer->data.fd(stream));
    result.push_back(peer->messages.get());
  }
  return result;
}

const std::string& TcpGroup::host_of(int rank) const {
  const Mesh& mesh = impl_->mesh();
  return rank == mesh.me.rank ? mesh.me.host : mesh.peers.at(static_cast<std::size_t>(rank))->name.host;
}

}  // namespace ddp::host
