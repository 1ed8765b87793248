#include "libddp/comm/mpi/mesh.h"

#include <algorithm>
#include <cstring>

#include <ddp/deadline.h>
#include <ddp/error.h>

#include "libddp/comm/mpi/runtime.h"

namespace ddp::mpi {
namespace {

namespace wire = comm::wire;

}  // namespace

Mesh::Mesh(MPI_Comm communicator, std::vector<RankName> names)
    : communicator_(communicator), heard_(sizeof(Frame) + wire::kLongestText) {
  check(MPI_Comm_rank(communicator_, &rank_), "MPI_Comm_rank");
  for (auto& name : names) peers_.push_back({std::move(name), {}, false});
  int* upper_bound = nullptr;
  int found = 0;
  check(MPI_Comm_get_attr(communicator_, MPI_TAG_UB, &upper_bound, &found), "MPI_Comm_get_attr");
  part_tags_ = (found != 0 ? *upper_bound : 32767) - kPartTag;
  listen();
}

Mesh::~Mesh() {
  if (is_finalized()) return;
  if (listening_ != MPI_REQUEST_NULL) {
    MPI_Cancel(&listening_);
    MPI_Request_free(&listening_);
  }
  MPI_Comm_free(&communicator_);
}

bool Mesh::is_over() {
  {
    const std::lock_guard lock(out_mutex_);
    collect();
    if (!outgoing_.empty()) return false;
  }
  const std::lock_guard lock(reading);
  comm::Failure failure;
  hear(failure);
  for (int peer = 0; peer < size(); ++peer)
    if (peer != rank_ && !peers_[static_cast<std::size_t>(peer)].left) return false;
  return true;
}

void Mesh::bury(std::unique_ptr<Mesh> mesh) {
  static std::mutex mutex;
  static auto* const buried = new std::list<std::unique_ptr<Mesh>>;
  const std::lock_guard lock(mutex);
  if (mesh) buried->push_back(std::move(mesh));
  for (auto at = buried->begin(); at != buried->end() && !is_finalized();) {
    bool over = false;
    try {
      over = (*at)->is_over();
    } catch (const Error&) {
      (void)at->release();  // another rank failed: messages may still come, for as long as the process lives
      over = true;
    }
    at = over ? buried->erase(at) : std::next(at);
  }
}

void Mesh::listen() {
  if (size() == 1) return;
  check(MPI_Irecv(heard_.data(), static_cast<int>(heard_.size()), MPI_BYTE, MPI_ANY_SOURCE, kControlTag,
                  communicator_, &listening_),
        "MPI_Irecv");
}

void Mesh::tell(Frame frame, const std::string& text) {
  if (size() == 1 || is_finalized()) return;
  const std::size_t length = std::min(text.size(), wire::kLongestText);
  frame.payload = static_cast<std::uint32_t>(length);
  Outgoing outgoing;
  outgoing.bytes.resize(sizeof frame + length);
  std::memcpy(outgoing.bytes.data(), &frame, sizeof frame);
  std::memcpy(outgoing.bytes.data() + sizeof frame, text.data(), length);
  const std::lock_guard lock(out_mutex_);
  collect();
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank_) continue;
    MPI_Request request = MPI_REQUEST_NULL;
    if (MPI_Isend(outgoing.bytes.data(), static_cast<int>(outgoing.bytes.size()), MPI_BYTE, peer, kControlTag,
                  communicator_, &request) == MPI_SUCCESS)
      outgoing.requests.push_back(request);
  }
  outgoing_.push_back(std::move(outgoing));
}

void Mesh::collect() {
  std::erase_if(outgoing_, [](Outgoing& outgoing) {
    int all = 0;
    MPI_Testall(static_cast<int>(outgoing.requests.size()), outgoing.requests.data(), &all,
                MPI_STATUSES_IGNORE);
    return all != 0;
  });
}

void Mesh::hear(comm::Failure& failure) {
  while (listening_ != MPI_REQUEST_NULL) {
    int arrived = 0;
    MPI_Status status;
    check(MPI_Test(&listening_, &arrived, &status), "MPI_Test");
    if (arrived == 0) return;
    int bytes = 0;
    check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
    Frame frame;
    if (static_cast<std::size_t>(bytes) < sizeof frame)
      throw Error(describe(peer(status.MPI_SOURCE).name) + " sent half a frame");
    std::memcpy(&frame, heard_.data(), sizeof frame);
    if (const char* problem = wire::invalid(frame))
      throw Error(describe(peer(status.MPI_SOURCE).name) + " sent " + problem);
    const std::vector<std::byte> payload(heard_.begin() + sizeof frame, heard_.begin() + bytes);
    listen();
    take(frame, payload.data(), status.MPI_SOURCE, failure);
  }
}

void Mesh::take(const Frame& frame, const std::byte* payload, int from, comm::Failure& failure) {
  Peer& peer = peers_[static_cast<std::size_t>(from)];
  if (frame.type == wire::FrameType::kGoodbye) peer.left = true;
  if (frame.type == wire::FrameType::kWaiting) peer.waiting = frame;
  if (frame.type != wire::FrameType::kFailure) return;
  const std::string text(reinterpret_cast<const char*>(payload), frame.payload);
  if (failure.record(static_cast<ErrorKind>(frame.kind), text)) heard_failure_ = true;
  failure.raise();
}

std::string Mesh::behind(const Frame& operation, int rank) const {
  return follow_reports(
      operation, rank,
      {rank_, size(), [this](int r) { return peer(r).waiting; }, [this](int r) { return peer(r).name; }});
}

void Mesh::keep(std::vector<std::byte> memory) {
  const std::lock_guard lock(out_mutex_);
  kept_.push_back(std::move(memory));
}

}  // namespace ddp::mpi
