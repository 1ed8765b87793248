// The door between libddp_comm, which knows no MPI, and libddp_mpi, which is loaded when somebody asks for it.
#pragma once

#include <memory>

#include <ddp/mpi_communicator.h>

namespace ddp::mpi {

/// Changes whenever Communicator or MpiCommunicatorOptions change: libraries of different builds must not meet.
inline constexpr const char* kInterface = "libddp_mpi interface 1, " DDP_VERSION;

struct Library {
  const char* interface;
  std::shared_ptr<Communicator> (*make)(const MpiCommunicatorOptions& options);
};

/// The symbol that the library exports.
inline constexpr const char* kSymbol = "ddp_mpi_library";

}  // namespace ddp::mpi
