// The backend "mpi": collectives over MPI's point-to-point transfers, for clusters whose network MPI knows best.
//
//   auto comm = ddp::make_mpi_communicator({});                      // all ranks of mpirun
//   MPI_Comm mine = ...;                                             // a program that uses MPI itself
//   auto comm = ddp::make_mpi_communicator({.adopt = &mine});        // its communicator, duplicated
//
// libmpi is loaded now and not before (libddp_mpi.so, built where MPI is found), so a program that links libddp runs on
// machines without MPI. Unless the program has done so, MPI is initialised, with MPI_THREAD_MULTIPLE, and finalised when
// the process exits; after an error it is not finalised, because that would wait for ranks that may not come: mpirun
// then ends the job. MPI_Abort is never called. What communicators do: ddp/communicator.h.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include <ddp/communicator.h>

namespace ddp {

struct MpiCommunicatorOptions {
  /// An MPI_Comm of the program, whose ranks take part; null: MPI_COMM_WORLD. Needs MPI_THREAD_MULTIPLE.
  const void* adopt = nullptr;
  /// What the launcher told this process, checked against MPI; -1: whatever MPI says.
  int rank = -1;
  int world_size = -1;
  /// For forming the group; operations use timeout.
  std::chrono::nanoseconds init_timeout = std::chrono::minutes(5);
  std::chrono::nanoseconds timeout = std::chrono::minutes(10);
  /// How errors on other ranks call the machine of this one; empty: its host name.
  std::string host_name;
};

/// Collective over the ranks. Throws ConfigError when this build or this machine has no MPI, when MPI lacks
/// MPI_THREAD_MULTIPLE or is finalised, when MPI counts other ranks than the launcher, or ranks use different versions of
/// libddp; TimeoutError when a rank does not come.
[[nodiscard]] std::shared_ptr<Communicator> make_mpi_communicator(const MpiCommunicatorOptions& options);

}  // namespace ddp
