// The communicator for CPU memory: decides, operation by operation, whether shared memory, TCP or both carry it.
#pragma once

#include <map>
#include <memory>
#include <utility>

#include <ddp/communicator.h>

#include "libddp/comm/failure.h"
#include "libddp/comm/host/hierarchical.h"
#include "libddp/comm/host/shm/lanes.h"
#include "libddp/comm/host/shm/local_link.h"
#include "libddp/comm/host/shm/shm_group.h"
#include "libddp/comm/host/tcp/tcp_group.h"
#include "libddp/comm/serial_executor.h"
#include "libddp/core/fork_guard.h"

namespace ddp::host {

class HostCommunicator final : public Communicator {
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
  void abort(const std::string& reason) override;
  void check_peer(int rank) override;

 protected:
  Work submit(Operation operation, bool async) override;

 private:
  template <class Work>
  void guarded(Work work);
  void execute(const Operation& operation, bool spin);
  void dispatch(const Operation& operation, bool spin);
  void point_to_point(const Operation& operation, bool spin);
  void require_own_process() const;
  void fail(ErrorKind kind, const std::string& text);
  [[nodiscard]] std::uint64_t next_sequence(const Operation& operation);
  [[nodiscard]] SerialExecutor& executor_of(const Operation& operation);

  HostCommunicatorOptions options_;
  std::shared_ptr<Store> store_;
  Failure failure_;
  LocalLink link_;
  std::unique_ptr<ShmGroup> shm_;               ///< when other ranks share memory with this one
  std::unique_ptr<ShmLanes> lanes_;             ///< likewise
  std::unique_ptr<TcpGroup> tcp_;               ///< when there is another host
  std::unique_ptr<Hierarchical> hierarchical_;  ///< when both are there
  std::unique_ptr<OtherHosts> others_;          ///< of tcp_
  std::uint64_t collectives_ = 0;
  std::uint64_t splits_ = 0;
  std::map<std::pair<OpKind, int>, std::uint64_t> messages_;  ///< sent to and received from each peer
  SerialExecutor collective_executor_;
  std::map<std::pair<OpKind, int>, SerialExecutor> lane_executors_;  ///< asynchronous send and recv, per lane
  ForkGuard guard_;  ///< of everything by which other ranks see that this one lives
};

}  // namespace ddp::host
