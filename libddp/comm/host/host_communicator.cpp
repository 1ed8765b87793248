#include "libddp/comm/host/host_communicator.h"

#include <algorithm>
#include <cstring>

#include <ddp/error.h>

#include "libddp/comm/kernels/reduce_kernels.h"

namespace ddp::host {
namespace {

class OverTcp final : public OtherHosts {
 public:
  explicit OverTcp(TcpGroup& tcp) : tcp_(tcp) {}
  void while_waiting(const Operation& operation, int rank) override { tcp_.while_waiting(operation, rank); }
  [[nodiscard]] std::string behind(const Operation& operation, int rank) const override {
    return tcp_.behind(operation, rank);
  }

 private:
  TcpGroup& tcp_;
};

LocalLink make_link(const HostCommunicatorOptions& options, Store& store, Deadline deadline) {
  if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size)
    throw ConfigError("rank " + std::to_string(options.rank) + " of a communicator of " +
                      std::to_string(options.world_size));
  if (options.streams < 1 || options.streams > 16)
    throw ConfigError("streams is " + std::to_string(options.streams) + ", expected 1 to 16");
  if (options.host_id.find('\n') != std::string::npos) throw ConfigError("host_id must be one line");
  return link_local_ranks({.rank = options.rank,
                           .world_size = options.world_size,
                           .host_name = options.host_name.empty() ? host_name() : options.host_name,
                           .shared_memory = options.shared_memory,
                           .host_id = options.host_id,
                           .arena_reserved = reserved_bytes(options.world_size)},
                          store, deadline);
}

}  // namespace

HostCommunicator::HostCommunicator(HostCommunicatorOptions options, std::shared_ptr<Store> store)
    : options_(std::move(options)), store_(std::move(store)) {
  set_default_timeout(options_.timeout);
  const Deadline deadline = Deadline::in(options_.init_timeout);
  link_ = make_link(options_, *store_, deadline);
  const Topology& topology = link_.topology;
  if (link_.members.ranks.size() > 1) {
    shm_ = std::make_unique<ShmGroup>(link_.members, topology.names, failure_);
    lanes_ = std::make_unique<ShmLanes>(link_.members, topology.names, shm_->sync());
    guard_.add(link_.members.lock_fd.get());
  }
  if (topology.hosts.size() > 1) {
    tcp_ = TcpGroup::connect({.rank = options_.rank,
                              .world_size = options_.world_size,
                              .token = options_.token,
                              .bind_address = options_.bind_address,
                              .streams = options_.streams,
                              .host_name = topology.names[static_cast<std::size_t>(options_.rank)].host},
                             *store_, failure_, deadline);
    others_ = std::make_unique<OverTcp>(*tcp_);
    for (const int fd : tcp_->descriptors()) guard_.add(fd);
    if (topology.hosts.size() < static_cast<std::size_t>(options_.world_size))
      hierarchical_ = std::make_unique<Hierarchical>(topology, link_.members, shm_.get(), *tcp_);
  }
}

HostCommunicator::~HostCommunicator() {
  if (!close()) {
    (void)shm_.release();
    (void)tcp_.release();
    return;
  }
  if (shm_) shm_->sync().close();
}

RankName HostCommunicator::self() const {
  return link_.topology.names[static_cast<std::size_t>(rank())];
}

Allocation HostCommunicator::allocate(std::size_t bytes) {
  const std::shared_ptr<Arena> arena = link_.members.arena;
  const std::size_t offset = arena->allocate(bytes);
  std::shared_ptr<void> owner(nullptr, [arena, offset, bytes](void*) { arena->free(offset, bytes); });
  return {arena->base() + offset, bytes, std::move(owner)};
}

void HostCommunicator::check_health() {
  if (shm_) shm_->sync().check_failure();
}

void HostCommunicator::dispatch(const Operation& operation, bool spin) {
  if (is_point_to_point(operation.kind)) return point_to_point(operation, spin);
  if (!tcp_) return shm_ ? shm_->run({operation, nullptr, spin}) : run_alone(operation);
  if (hierarchical_ && operation.kind == OpKind::kAllReduce)
    return hierarchical_->all_reduce({operation, others_.get(), spin});
  // All collectives of a host pass here, so that ranks which disagree about the kind meet.
  if (shm_) shm_->begin({operation, others_.get(), spin});
  tcp_->run(operation, [this] {
    if (shm_) shm_->sync().check_failure();
  });
}

void HostCommunicator::point_to_point(const Operation& operation, bool spin) {
  if (!lanes_ || lanes_->index_of(operation.peer) < 0)
    return tcp_->run(operation, [this] {
      if (shm_) shm_->sync().check_failure();
    });
  const WaitContext context{operation, nullptr, spin};
  operation.kind == OpKind::kSend ? lanes_->send(context) : lanes_->recv(context);
}

void HostCommunicator::fail(ErrorKind kind, const std::string& text) {
  failure_.record(kind, text);
  if (shm_) shm_->sync().record_failure(failure_.kind(), failure_.text());
  if (tcp_) tcp_->fail(failure_.kind(), failure_.text());
}

void HostCommunicator::check_peer(int rank) {
  require_own_process();
  require_peer(rank);
  failure_.check();
  // An operation in flight watches the peers itself, and owns the connections meanwhile.
  if (rank == this->rank() || !idle()) return;
  guarded([&] {
    const auto& local = link_.members.ranks;
    const auto found = std::find(local.begin(), local.end(), rank);
    if (shm_) shm_->sync().check_failure();
    if (found != local.end())
      shm_->sync().check_member(static_cast<int>(found - local.begin()));
    else
      tcp_->check_peer(rank);
  });
}

std::shared_ptr<Communicator> HostCommunicator::split(int color, int key, const CollectiveOptions& options) {
  const std::int64_t mine[2] = {color, key};
  std::vector<std::int64_t> all(2 * static_cast<std::size_t>(size()));
  all_gather({mine, 2, DType::kInt64}, {all.data(), all.size(), DType::kInt64}, options);
  ++splits_;
  if (color < 0) return nullptr;
  std::vector<std::pair<std::int64_t, int>> members;
  for (int r = 0; r < size(); ++r)
    if (all[2 * static_cast<std::size_t>(r)] == color)
      members.emplace_back(all[2 * static_cast<std::size_t>(r) + 1], r);
  std::sort(members.begin(), members.end());
  HostCommunicatorOptions sub = options_;
  sub.world_size = static_cast<int>(members.size());
  sub.rank = static_cast<int>(
      std::find_if(members.begin(), members.end(), [&](const auto& m) { return m.second == rank(); }) -
      members.begin());
  sub.timeout = default_timeout();
  if (options.timeout) sub.init_timeout = *options.timeout;
  const std::string prefix = "split/" + std::to_string(splits_) + "/" + std::to_string(color) + "/";
  return std::make_shared<HostCommunicator>(std::move(sub), make_prefix_store(prefix, store_));
}

}  // namespace ddp::host

namespace ddp {

std::shared_ptr<Communicator> make_host_communicator(const HostCommunicatorOptions& options,
                                                     std::shared_ptr<Store> store) {
  return std::make_shared<host::HostCommunicator>(options, std::move(store));
}

}  // namespace ddp
