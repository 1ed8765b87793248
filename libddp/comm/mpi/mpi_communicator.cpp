#include "libddp/comm/mpi/mpi_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <numeric>

#include <unistd.h>

#include <ddp/error.h>

#include "libddp/comm/exchange/plan.h"
#include "libddp/comm/mpi/engine.h"
#include "libddp/comm/mpi/library.h"
#include "libddp/comm/mpi/runtime.h"
#include "libddp/core/fd.h"

namespace ddp::mpi {
namespace {

/// What ranks tell about themselves when the communicator is formed.
struct Card {
  std::array<char, 64> version{};
  std::array<char, 256> host{};
  int pid = 0;
};

template <std::size_t N>
void copy_text(std::array<char, N>& to, const std::string& text) {
  std::memcpy(to.data(), text.data(), std::min(text.size(), N - 1));
}

/// For what all ranks must come to; MPI cannot say who has not.
void wait(MPI_Request request, Deadline deadline, const std::string& what) {
  int done = 0;
  for (Patience patience; done == 0;) {
    check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done == 0 && patience.wait()) deadline.check(what);
  }
}

std::vector<Card> exchange_cards(MPI_Comm communicator, const MpiCommunicatorOptions& options, int size,
                                 Deadline deadline) {
  Card mine;
  copy_text(mine.version, kInterface);
  copy_text(mine.host, options.host_name.empty() ? host_name() : options.host_name);
  mine.pid = ::getpid();
  std::vector<Card> cards(static_cast<std::size_t>(size));
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Iallgather(&mine, sizeof mine, MPI_BYTE, cards.data(), sizeof mine, MPI_BYTE, communicator,
                       &request),
        "MPI_Iallgather");
  wait(request, deadline, "waiting for all " + std::to_string(size) + " ranks to form the MPI communicator");
  for (std::size_t rank = 0; rank < cards.size(); ++rank)
    if (cards[rank].version != mine.version)
      throw ConfigError("rank " + std::to_string(rank) + " uses '" + cards[rank].version.data() +
                        "', this one '" + mine.version.data() + "': every rank needs the same libddp");
  return cards;
}

/// Our own, in which nobody else communicates. MPI_Comm_dup waits without a deadline, so not before everybody has come;
/// MPI_Comm_idup of Open MPI 4.1.4 crashes when communicators are freed meanwhile.
MPI_Comm duplicate(MPI_Comm parent, Deadline deadline) {
  MPI_Request request = MPI_REQUEST_NULL;
  check(MPI_Ibarrier(parent, &request), "MPI_Ibarrier");
  int size = 0;
  check(MPI_Comm_size(parent, &size), "MPI_Comm_size");
  wait(request, deadline,
       "waiting for all " + std::to_string(size) +
           " ranks of MPI to call ddp::init() or make_mpi_communicator()");
  MPI_Comm communicator = MPI_COMM_NULL;
  check(MPI_Comm_dup(parent, &communicator), "MPI_Comm_dup");
  check(MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return communicator;
}

void require_as_launched(const MpiCommunicatorOptions& options, int rank, int size) {
  const bool other_size = options.world_size >= 0 && options.world_size != size;
  const bool other_rank = options.rank >= 0 && options.rank != rank;
  if (!other_size && !other_rank) return;
  throw ConfigError("backend 'mpi': the launcher says rank " + std::to_string(options.rank) + " of " +
                    std::to_string(options.world_size) + ", MPI says rank " + std::to_string(rank) + " of " +
                    std::to_string(size) +
                    (size == 1
                         ? ": this process was not started by mpirun or srun --mpi=pmix. Start it so, or use "
                           "backend 'host'"
                         : ""));
}

/// MPI's own view of who shares memory, not the host's name: containers may have the same one, or share under two.
std::vector<int> ranks_of_this_host(MPI_Comm communicator, int rank, int size) {
  MPI_Comm local = MPI_COMM_NULL;
  check(MPI_Comm_split_type(communicator, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &local),
        "MPI_Comm_split_type");
  MPI_Group everybody = MPI_GROUP_NULL, here = MPI_GROUP_NULL;
  check(MPI_Comm_group(communicator, &everybody), "MPI_Comm_group");
  check(MPI_Comm_group(local, &here), "MPI_Comm_group");
  std::vector<int> all(static_cast<std::size_t>(size)), places(all.size());
  std::iota(all.begin(), all.end(), 0);
  check(MPI_Group_translate_ranks(everybody, size, all.data(), here, places.data()),
        "MPI_Group_translate_ranks");
  MPI_Group_free(&here);
  MPI_Group_free(&everybody);
  MPI_Comm_free(&local);
  std::erase_if(all, [&](int r) { return places[static_cast<std::size_t>(r)] == MPI_UNDEFINED; });
  return all;
}

}  // namespace

MpiCommunicator::MpiCommunicator(MPI_Comm parent, MpiCommunicatorOptions options)
    : options_(std::move(options)) {
  set_default_timeout(options_.timeout);
  Mesh::bury(nullptr);
  const Deadline deadline = Deadline::in(options_.init_timeout);
  int rank = 0, size = 0;
  check(MPI_Comm_rank(parent, &rank), "MPI_Comm_rank");
  check(MPI_Comm_size(parent, &size), "MPI_Comm_size");
  require_as_launched(options_, rank, size);
  MPI_Comm communicator = duplicate(parent, deadline);
  std::vector<RankName> names;
  for (const Card& card : exchange_cards(communicator, options_, size, deadline))
    names.push_back({static_cast<int>(names.size()), card.host.data(), card.pid});
  local_ranks_ = ranks_of_this_host(communicator, rank, size);
  mesh_ = std::make_unique<Mesh>(communicator, std::move(names));
  messages_ = std::make_unique<Messages>(*mesh_);
}

MpiCommunicator::~MpiCommunicator() {
  if (!close()) {
    (void)mesh_.release();
    return;
  }
  if (!mesh_) return;
  if (failure_.recorded()) {
    (void)mesh_.release();  // transfers may be under way in it for as long as the process lives
    return;
  }
  Frame goodbye;
  goodbye.type = comm::wire::FrameType::kGoodbye;
  mesh_->tell(goodbye, "");
  Mesh::bury(std::move(mesh_));
}

Allocation MpiCommunicator::allocate(std::size_t bytes) {
  constexpr std::size_t kAlignment = 64;
  const std::size_t rounded = std::max(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  void* data = std::aligned_alloc(kAlignment, rounded);
  if (data == nullptr) throw Error("cannot allocate " + std::to_string(bytes) + " bytes");
  std::memset(data, 0, rounded);
  return {data, bytes, std::shared_ptr<void>(data, [](void* memory) { std::free(memory); })};
}

void MpiCommunicator::check_health() {
  const std::unique_lock reading(mesh_->reading, std::try_to_lock);
  if (reading && !is_finalized()) mesh_->hear(failure_);  // else an operation in flight does
}

void MpiCommunicator::dispatch(const Operation& operation, bool /*spin*/) {
  if (is_finalized()) throw Error("MPI has been finalised before the communicator was done");
  comm::is_point_to_point(operation.kind) ? message(operation) : collective(operation);
}

void MpiCommunicator::collective(const Operation& operation) {
  if (size() == 1) return comm::run_alone(operation);
  comm::Team everybody;
  everybody.ranks.resize(static_cast<std::size_t>(size()));
  std::iota(everybody.ranks.begin(), everybody.ranks.end(), 0);
  everybody.me = rank();
  const std::lock_guard reading(mesh_->reading);
  slots_.trim();
  const auto exchange = plan(operation, std::move(everybody), 1, slots_);
  Engine(*mesh_, failure_, operation, comm::wire::digest_of_counts(operation)).drive(*exchange);
}

void MpiCommunicator::message(const Operation& operation) {
  const auto look_around = [&] {
    failure_.check();
    // Who holds it looks around itself.
    const std::unique_lock reading(mesh_->reading, std::try_to_lock);
    if (!reading) return;
    mesh_->hear(failure_);
    if (operation.kind == OpKind::kRecv && mesh_->peer(operation.peer).left)
      throw PeerFailure(describe(self()) + " lost " + describe(mesh_->peer(operation.peer).name) + " in " +
                        describe(operation) + ": it left: its program ended or gave the communicator up");
  };
  operation.kind == OpKind::kSend ? messages_->send(operation, look_around)
                                  : messages_->recv(operation, look_around);
}

void MpiCommunicator::fail(ErrorKind kind, const std::string& text) {
  failure_.record(kind, text);
  give_up_finalizing();
  if (mesh_->heard_failure() || told_.exchange(true)) return;
  Frame frame;
  frame.type = comm::wire::FrameType::kFailure;
  frame.kind = static_cast<std::uint8_t>(failure_.kind());
  mesh_->tell(frame, failure_.text());
}

void MpiCommunicator::check_peer(int rank) {
  require_own_process();
  require_peer(rank);
  failure_.check();
  if (rank == this->rank()) return;
  guarded([&] {
    const std::unique_lock reading(mesh_->reading, std::try_to_lock);
    if (!reading) return;  // an operation in flight looks around itself
    mesh_->hear(failure_);
    if (mesh_->peer(rank).left)
      throw PeerFailure(describe(self()) + ": " + describe(mesh_->peer(rank).name) +
                        " has closed its communicator");
  });
}

/// MPI_Comm_split waits without a deadline, so not before everybody has come.
std::shared_ptr<Communicator> MpiCommunicator::split(int color, int key, const CollectiveOptions& options) {
  barrier(options);
  MPI_Comm part = MPI_COMM_NULL;
  check(MPI_Comm_split(mesh_->communicator(), color < 0 ? MPI_UNDEFINED : color, key, &part),
        "MPI_Comm_split");
  if (color < 0) return nullptr;
  MpiCommunicatorOptions sub = options_;
  sub.adopt = nullptr;
  sub.rank = sub.world_size = -1;
  sub.timeout = default_timeout();
  if (options.timeout) sub.init_timeout = *options.timeout;
  auto communicator = std::make_shared<MpiCommunicator>(part, sub);
  MPI_Comm_free(&part);
  return communicator;
}

namespace {

std::shared_ptr<Communicator> make(const MpiCommunicatorOptions& options) {
  require_mpi();
  const MPI_Comm parent =
      options.adopt == nullptr ? MPI_COMM_WORLD : *static_cast<const MPI_Comm*>(options.adopt);
  return std::make_shared<MpiCommunicator>(parent, options);
}

}  // namespace
}  // namespace ddp::mpi

extern "C" __attribute__((visibility("default")))
const ddp::mpi::Library ddp_mpi_library{ddp::mpi::kInterface, ddp::mpi::make};
