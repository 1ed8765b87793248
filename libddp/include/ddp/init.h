// Joins the job this process was started for.
//
//   ddp::Context context = ddp::init();  // torchrun, ddprun, mpirun, Slurm, PyTorchJob, or nothing: one process
#pragma once

#include <chrono>
#include <string>

#include <ddp/context.h>

namespace ddp {

struct InitOptions {
  /// "cpu" or "cuda"; with "cuda" the device is the one of local_rank, and libtorch_cuda is loaded now and not before.
  /// Several ranks can use "cpu" only: there is no backend for GPUs yet.
  std::string device = "cpu";
  /// "auto", "host" or "mpi"; empty: DDP_BACKEND, or "auto". auto is host: shared memory and TCP. mpi needs mpirun, or srun
  /// with --mpi, and an MPI library on this machine.
  std::string backend;
  /// The same bits in every run though a rank has several threads, as a job needs that is to go on after a restart exactly
  /// where it was: asks MKL for it (MKL_CBWR, unless somebody has set it). Takes effect when init() comes before the first
  /// matrix product of the process. Up to half the speed on processors with AVX-512; one thread a rank needs none of it.
  bool reproducible = false;
  /// For finding the other ranks.
  std::chrono::nanoseconds init_timeout = std::chrono::minutes(5);
  /// Default of every collective afterwards.
  std::chrono::nanoseconds timeout = std::chrono::minutes(10);
};

/// Reads the environment, finds the other ranks and connects to them: every rank of the job calls it once per process.
/// Also applies DDP_LOG_LEVEL, DDP_LOG_FORMAT, DDP_BIND_ADDRESS (the address other hosts reach this one at; default:
/// that of the route to the store) and DDP_JOB_TOKEN or DDP_JOB_TOKEN_FILE (the secret that ranks prove to each other).
/// Throws ConfigError, RendezvousError or TimeoutError that say which variable or which rank.
[[nodiscard]] Context init(const InitOptions& options = {});

}  // namespace ddp
