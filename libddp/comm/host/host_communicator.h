// The communicator for CPU memory: decides, operation by operation, whether shared memory, TCP or both carry it.
#pragma once

#include <memory>

#include <ddp/communicator.h>

#include "libddp/comm/host/hierarchical.h"
#include "libddp/comm/host/shm/lanes.h"
#include "libddp/comm/host/shm/local_link.h"
#include "libddp/comm/host/shm/shm_group.h"
#include "libddp/comm/host/tcp/tcp_group.h"
#include "libddp/comm/queued_communicator.h"

namespace ddp::host {

class HostCommunicator final : public QueuedCommunicator {
 public:
  /// Collective; see make_host_communicator.
  HostCommunicator(HostCommunicatorOptions options, std::shared_ptr<Store> store);
  ~HostCommunicator() override;

  [[nodiscard]] int rank() const override { return options_.rank; }
  [[nodiscard]] int size() const override { return options_.world_size; }
  [[nodiscard]] const char* backend() const override { return "host"; }
  [[nodiscard]] std::vector<int> local_ranks() const override { return link_.members.ranks; }
  [[nodiscard]] Allocation allocate(std::size_t bytes) override;
  [[nodiscard]] std::shared_ptr<Communicator> split(int color, int key,
                                                    const CollectiveOptions& options) override;
  void check_peer(int rank) override;

 private:
  void dispatch(const Operation& operation, bool spin) override;
  void check_health() override;
  void fail(ErrorKind kind, const std::string& text) override;
  [[nodiscard]] RankName self() const override;
  void point_to_point(const Operation& operation, bool spin);

  HostCommunicatorOptions options_;
  std::shared_ptr<Store> store_;
  LocalLink link_;
  std::unique_ptr<ShmGroup> shm_;               ///< when other ranks share memory with this one
  std::unique_ptr<ShmLanes> lanes_;             ///< likewise
  std::unique_ptr<TcpGroup> tcp_;               ///< when there is another host
  std::unique_ptr<Hierarchical> hierarchical_;  ///< when both are there
  std::unique_ptr<OtherHosts> others_;          ///< of tcp_
  std::uint64_t splits_ = 0;
};

}  // namespace ddp::host
