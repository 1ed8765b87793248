// MPI itself: initialised once a process, by us or by the program, and its errors as exceptions.
#pragma once

#include <mpi.h>

#include <string>

namespace ddp::mpi {

/// Initialises MPI unless it is; once a process. Throws ConfigError when it is finalised or lacks MPI_THREAD_MULTIPLE.
void require_mpi();
/// From now on the process exits without MPI_Finalize, which would wait for every rank. Any thread.
void give_up_finalizing() noexcept;
/// Whether MPI calls are still allowed.
[[nodiscard]] bool is_finalized();

/// Throws Error with MPI's text, unless `code` is MPI_SUCCESS.
void check(int code, const char* what);

}  // namespace ddp::mpi
