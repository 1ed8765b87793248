// The communicator over MPI: the algorithms of comm/exchange, carried by MPI's point-to-point messages.
#pragma once

#include <memory>
#include <vector>

#include <ddp/mpi_communicator.h>

#include "libddp/comm/exchange/slots.h"
#include "libddp/comm/mpi/mesh.h"
#include "libddp/comm/mpi/messages.h"
#include "libddp/comm/queued_communicator.h"

namespace ddp::mpi {

class MpiCommunicator final : public comm::QueuedCommunicator {
 public:
  /// Collective over the ranks of `parent`, which is duplicated.
  MpiCommunicator(MPI_Comm parent, MpiCommunicatorOptions options);
  ~MpiCommunicator() override;

  [[nodiscard]] int rank() const override { return mesh_->rank(); }
  [[nodiscard]] int size() const override { return mesh_->size(); }
  [[nodiscard]] const char* backend() const override { return "mpi"; }
  [[nodiscard]] std::vector<int> local_ranks() const override { return local_ranks_; }
  [[nodiscard]] Allocation allocate(std::size_t bytes) override;
  [[nodiscard]] std::shared_ptr<Communicator> split(int color, int key,
                                                    const CollectiveOptions& options) override;
  void check_peer(int rank) override;

 private:
  void dispatch(const Operation& operation, bool spin) override;
  void check_health() override;
  void fail(ErrorKind kind, const std::string& text) override;
  [[nodiscard]] RankName self() const override { return mesh_->me(); }
  void collective(const Operation& operation);
  void message(const Operation& operation);

  MpiCommunicatorOptions options_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<Messages> messages_;
  std::vector<int> local_ranks_;
  comm::Slots slots_;
  std::atomic<bool> told_{false};
};

}  // namespace ddp::mpi
