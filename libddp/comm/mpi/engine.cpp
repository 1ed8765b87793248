#include "libddp/comm/mpi/engine.h"

#include <algorithm>
#include <cstring>

#include <ddp/error.h>

#include "libddp/comm/mpi/runtime.h"

namespace ddp::mpi {
namespace {

namespace wire = comm::wire;
using comm::Part;

/// Parts in flight to and from a peer: enough to keep a link busy, few enough to stay in the cache.
constexpr int kInFlight = 8;
/// How long what a rank sent before it left may take to be seen.
constexpr std::chrono::milliseconds kLastFrame{50};

}  // namespace

Engine::Engine(Mesh& mesh, comm::Failure& failure, const Operation& operation, std::uint64_t digest)
    : mesh_(mesh),
      failure_(failure),
      operation_(operation),
      frame_(wire::frame_of(operation, digest)),
      link_of_rank_(static_cast<std::size_t>(mesh.size()), -1) {}

/// After an error transfers may be under way. Those that cannot be called back keep the memory they touch; of the
/// user's buffers ddp/communicator.h says so.
Engine::~Engine() {
  if (requests_.empty() || is_finalized()) return;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const Kind kind = transfers_[i].kind;
    if (kind == Kind::kFrameIn || kind == Kind::kPartIn) MPI_Cancel(&requests_[i]);
    MPI_Request_free(&requests_[i]);
  }
  for (Link& link : links_) {
    mesh_.keep(std::move(link.frame_in));
    mesh_.keep(std::move(link.frame_out));
  }
}

Engine::Link& Engine::link_to(int rank) {
  return links_[static_cast<std::size_t>(link_of_rank_[static_cast<std::size_t>(rank)])];
}
void Engine::send(int rank, const Part& part) {
  link_to(rank).to_send.push_back(part);
}
void Engine::expect(int rank, const Part& part) {
  link_to(rank).expected.push_back(part);
}

void Engine::drive(comm::Exchange& exchange) {
  exchange_ = &exchange;
  for (const auto& talk : exchange.talks()) {
    link_of_rank_[static_cast<std::size_t>(talk.rank)] = static_cast<int>(links_.size());
    links_.emplace_back().talk = talk;
  }
  exchange_frames();
  exchange.start(*this);
  for (;;) {
    for (std::size_t link = 0; link < links_.size(); ++link) {
      send_parts(link);
      receive_parts(link);
    }
    const bool moved = progress();
    if (complete()) break;
    if (moved)
      patience_.moved();
    else if (patience_.wait())
      look_around();
  }
  exchange.finish();
}

void Engine::exchange_frames() {
  for (std::size_t i = 0; i < links_.size(); ++i) {
    Link& link = links_[i];
    link.frame_in.resize(sizeof(Frame) + wire::kInlineBytes);
    post({Kind::kFrameIn, i, {}}, link.frame_in.data(), link.frame_in.size(), kFrameTag);
    const auto payload = link.talk.payload;
    frame_.payload = static_cast<std::uint32_t>(payload.size());
    link.frame_out.resize(sizeof(Frame) + payload.size());
    std::memcpy(link.frame_out.data(), &frame_, sizeof(Frame));
    if (!payload.empty()) std::memcpy(link.frame_out.data() + sizeof(Frame), payload.data(), payload.size());
    post({Kind::kFrameOut, i, {}}, link.frame_out.data(), link.frame_out.size(), kFrameTag);
  }
}

void Engine::send_parts(std::size_t index) {
  Link& link = links_[index];
  for (; link.sending < kInFlight && !link.to_send.empty(); ++link.sending) {
    const Part part = link.to_send.front();
    link.to_send.pop_front();
    post({Kind::kPartOut, index, part}, part.data, part.bytes, mesh_.part_tag(part.index));
  }
}

/// Not before both agree: what comes might be part of something else.
void Engine::receive_parts(std::size_t index) {
  Link& link = links_[index];
  if (!link.agreed) return;
  for (; link.receiving < kInFlight && !link.expected.empty(); ++link.receiving) {
    Part& part = link.expected.front();
    if (part.data == nullptr && !exchange_->place(part)) return;
    post({Kind::kPartIn, index, part}, part.data, part.bytes, mesh_.part_tag(part.index));
    link.expected.pop_front();
  }
}

void Engine::post(Transfer transfer, void* data, std::size_t bytes, int tag) {
  const int peer = links_[transfer.link].talk.rank;
  const auto count = static_cast<int>(bytes);
  MPI_Request request = MPI_REQUEST_NULL;
  if (transfer.kind == Kind::kFrameIn || transfer.kind == Kind::kPartIn)
    check(MPI_Irecv(data, count, MPI_BYTE, peer, tag, mesh_.communicator(), &request), "MPI_Irecv");
  else
    check(MPI_Isend(data, count, MPI_BYTE, peer, tag, mesh_.communicator(), &request), "MPI_Isend");
  requests_.push_back(request);
  transfers_.push_back(std::move(transfer));
}

bool Engine::progress() {
  int done = 0;
  indices_.resize(requests_.size());
  statuses_.resize(requests_.size());
  check(MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &done, indices_.data(),
                     statuses_.data()),
        "MPI_Testsome");
  if (done == MPI_UNDEFINED || done == 0) return false;
  std::vector<Transfer> finished_ones;
  for (int i = 0; i < done; ++i)
    finished_ones.push_back(transfers_[static_cast<std::size_t>(indices_[static_cast<std::size_t>(i)])]);
  // Removed before they are dealt with: what is dealt with may throw.
  std::sort(indices_.begin(), indices_.begin() + done, std::greater<>());
  for (int i = 0; i < done; ++i) {
    const auto at = static_cast<std::size_t>(indices_[static_cast<std::size_t>(i)]);
    requests_[at] = requests_.back();
    requests_.pop_back();
    transfers_[at] = std::move(transfers_.back());
    transfers_.pop_back();
  }
  for (int i = 0; i < done; ++i)
    finished(finished_ones[static_cast<std::size_t>(i)], statuses_[static_cast<std::size_t>(i)]);
  return true;
}

void Engine::finished(const Transfer& transfer, const MPI_Status& status) {
  Link& link = links_[transfer.link];
  switch (transfer.kind) {
    case Kind::kFrameIn:
      return agree(link, status);
    case Kind::kFrameOut:
      return;
    case Kind::kPartIn:
      --link.receiving;
      return exchange_->received(*this, transfer.part);
    case Kind::kPartOut:
      --link.sending;
      return exchange_->sent(transfer.part);
  }
}

void Engine::agree(Link& link, const MPI_Status& status) {
  const auto& peer = mesh_.peer(link.talk.rank).name;
  int bytes = 0;
  check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  const auto size = static_cast<std::size_t>(bytes);
  comm::Heard heard;
  const bool whole = size >= sizeof(Frame);
  if (whole) std::memcpy(&heard.frame, link.frame_in.data(), sizeof(Frame));
  const char* problem = whole ? wire::invalid(heard.frame) : "half a frame";
  if (problem == nullptr && size != sizeof(Frame) + heard.frame.payload)
    problem = "a frame of another length";
  if (problem != nullptr) throw Error(describe(peer) + " sent " + problem + ", " + here());
  if (const auto text = wire::disagreement(frame_, mesh_.me(), heard.frame, peer)) throw MismatchError(*text);
  heard.payload.assign(link.frame_in.begin() + sizeof(Frame), link.frame_in.begin() + bytes);
  if (heard.payload.size() != link.talk.expected)
    throw Error(describe(peer) + " sent " + std::to_string(heard.payload.size()) +
                " bytes with its frame where " + std::to_string(link.talk.expected) + " were due, " + here());
  link.agreed = true;
  exchange_->heard(link.talk.rank, heard);
}

bool Engine::complete() const {
  if (!requests_.empty()) return false;
  return std::all_of(links_.begin(), links_.end(), [](const Link& link) {
    return link.agreed && link.to_send.empty() && link.expected.empty();
  });
}

void Engine::look_around() {
  failure_.check();
  mesh_.hear(failure_);
  const int rank = waits_for();
  const bool gone = rank >= 0 && !link_to(rank).agreed && mesh_.peer(rank).left;
  if (!gone) gone_at_.reset();
  // Its last frame may have come before its goodbye, and only be seen now.
  if (gone && !gone_at_) gone_at_ = Clock::now();
  if (gone && Clock::now() - *gone_at_ > kLastFrame)
    throw PeerFailure(describe(mesh_.me()) + " lost " + describe(mesh_.peer(rank).name) + " in " +
                      describe(operation_) + ": it left: its program ended or gave the communicator up");
  if (!reported_ && operation_.deadline.remaining() <= operation_.deadline.timeout() / 2) {
    reported_ = true;
    Frame report = frame_;
    report.type = wire::FrameType::kWaiting;
    report.peer = rank;
    mesh_.tell(report, "");
  }
  if (operation_.deadline.passed()) time_out();
}

int Engine::waits_for() const {
  for (const Link& link : links_)
    if (!link.agreed) return link.talk.rank;
  for (const Link& link : links_)
    if (link.receiving > 0 || !link.expected.empty()) return link.talk.rank;
  for (const Link& link : links_)
    if (link.sending > 0 || !link.to_send.empty()) return link.talk.rank;
  return links_.empty() ? -1 : links_.front().talk.rank;
}

void Engine::time_out() const {
  const int rank = waits_for();
  const auto index = static_cast<std::size_t>(link_of_rank_[static_cast<std::size_t>(rank)]);
  throw TimeoutError("timed out after " + to_string(operation_.deadline.timeout()) + ": " + here() +
                     " waits for " + describe(mesh_.peer(rank).name) +
                     (links_[index].agreed ? " to move its data" : " to begin it too") +
                     mesh_.behind(frame_, rank) + " (is it stopped, stuck or slow?)");
}

std::string Engine::here() const {
  return describe(mesh_.me()) + " in " + describe(operation_);
}

}  // namespace ddp::mpi
