#include "libddp/rendezvous/launchers.h"

#include <algorithm>
#include <array>
#include <cctype>

#include <ddp/error.h>

namespace ddp {
namespace {

bool in_slurm_step(const EnvReader& reader) {
  return reader.has("SLURM_PROCID") &&
         reader.has_any({"SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS"});
}

/// PET_* is meant for torchrun or ddprun inside the pod; whoever sets LOCAL_RANK has already been it.
bool in_pod(const EnvReader& reader) {
  return !reader.has("LOCAL_RANK") &&
         reader.has_any({"PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_NNODES", "PET_RDZV_ENDPOINT"});
}

/// A batch script's own process has SLURM_PROCID=0 and SLURM_NTASKS of the whole job, but is not one of its
/// tasks: joining would wait for tasks that were never started, not joining would train on one of N silently.
void refuse_batch_script(const EnvReader& reader) {
  if (!reader.has("SLURM_PROCID")) return;
  const auto tasks = reader.integer({"SLURM_NTASKS"}, 1, 1 << 24);
  if (tasks && tasks->value > 1)
    throw ConfigError(
        shown("SLURM_NTASKS", std::to_string(tasks->value)) +
        " but this process is not part of a step (SLURM_STEP_ID is not set): start it with srun, "
        "or for a single process set RANK=0 WORLD_SIZE=1");
}

bool is_number(const std::string& text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

void check_processes_per_pod(const EnvReader& reader) {
  const auto nproc = reader.raw("PET_NPROC_PER_NODE");
  if (!nproc || *nproc == "auto" || *nproc == "cpu" || *nproc == "gpu") return;
  const auto count = reader.integer({"PET_NPROC_PER_NODE"}, 1, 1 << 20);
  if (count->value > 1)
    throw ConfigError(
        reader.show("PET_NPROC_PER_NODE") +
        " but LOCAL_RANK is not set: this pod must run a launcher that starts its processes, as in "
        "command: [ddprun, your-program, ...]; to run the program itself set nprocPerNode: 1");
}

}  // namespace

Launcher detect_launcher(const EnvReader& reader) {
  if (const auto ours = reader.raw("DDP_LAUNCHER")) {
    if (*ours == "ddprun") return Launcher::kDdprun;
    throw ConfigError(shown("DDP_LAUNCHER", *ours) + " is not known: only ddprun sets it; unset it");
  }
  if (reader.has("TORCHELASTIC_RUN_ID")) return Launcher::kTorchrun;
  if (reader.has_any({"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"})) return Launcher::kOpenMpi;
  // srun --mpi=pmi2 sets PMI_* beside its own variables; Hydra under Slurm also sets MPI_LOCALRANKID.
  if (reader.has_any({"PMI_RANK", "PMI_SIZE"}) && (!in_slurm_step(reader) || reader.has("MPI_LOCALRANKID")))
    return Launcher::kPmi;
  if (in_pod(reader))
    return reader.has_any({"RANK", "WORLD_SIZE"}) ? Launcher::kPyTorchJob : Launcher::kTrainJob;
  if (reader.has_any({"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"})) return Launcher::kPlain;
  if (in_slurm_step(reader)) return Launcher::kSlurm;
  refuse_batch_script(reader);
  return Launcher::kSingle;
}

const LauncherNames& names_of(Launcher launcher) {
  static const std::array<LauncherNames, 8> kTable = {{
      {Launcher::kDdprun,
       {"RANK"},
       {"WORLD_SIZE"},
       {"LOCAL_RANK"},
       {"LOCAL_WORLD_SIZE"},
       {"GROUP_RANK"},
       {"GROUP_WORLD_SIZE"},
       {"DDP_STORE_ADDR", "MASTER_ADDR"},
       {"DDP_STORE_PORT", "MASTER_PORT"},
       {"DDP_RESTART_COUNT"},
       {"DDP_RUN_ID"}},
      {Launcher::kTorchrun,
       {"RANK"},
       {"WORLD_SIZE"},
       {"LOCAL_RANK"},
       {"LOCAL_WORLD_SIZE"},
       {"GROUP_RANK"},
       {"GROUP_WORLD_SIZE"},
       {"MASTER_ADDR"},
       {"MASTER_PORT"},
       {"TORCHELASTIC_RESTART_COUNT"},
       {"TORCHELASTIC_RUN_ID"}},
      {Launcher::kOpenMpi,
       {"OMPI_COMM_WORLD_RANK"},
       {"OMPI_COMM_WORLD_SIZE"},
       {"OMPI_COMM_WORLD_LOCAL_RANK"},
       {"OMPI_COMM_WORLD_LOCAL_SIZE"},
       {},
       {},
       {"MASTER_ADDR"},
       {"MASTER_PORT"},
       {"DDP_RESTART_COUNT"},
       {"DDP_RUN_ID", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"}},
      {Launcher::kPmi,
       {"PMI_RANK"},
       {"PMI_SIZE"},
       {"MPI_LOCALRANKID"},
       {"MPI_LOCALNRANKS"},
       {},
       {},
       {"MASTER_ADDR"},
       {"MASTER_PORT"},
       {"DDP_RESTART_COUNT"},
       {"DDP_RUN_ID"}},
      {Launcher::kPyTorchJob,
       {"RANK"},
       {"WORLD_SIZE"},
       {},
       {},
       {},
       {},
       {"MASTER_ADDR", "PET_MASTER_ADDR"},
       {"MASTER_PORT", "PET_MASTER_PORT"},
       {"DDP_RESTART_COUNT"},
       {"DDP_RUN_ID", "PET_RDZV_ID"}},
      {Launcher::kTrainJob,
       {"PET_NODE_RANK"},
       {"PET_NNODES"},
       {},
       {},
       {},
       {},
       {"PET_MASTER_ADDR"},
       {"PET_MASTER_PORT"},
       {"DDP_RESTART_COUNT"},
       {"DDP_RUN_ID", "PET_RDZV_ID"}},
      {Launcher::kPlain,
       {"RANK"},
       {"WORLD_SIZE"},
       {"LOCAL_RANK"},
       {"LOCAL_WORLD_SIZE"},
       {"GROUP_RANK"},
       {"GROUP_WORLD_SIZE"},
       {"MASTER_ADDR"},
       {"MASTER_PORT"},
       {"DDP_RESTART_COUNT"},
       {"DDP_RUN_ID"}},
      {Launcher::kSlurm,
       {"SLURM_PROCID"},
       {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"},
       {"SLURM_LOCALID"},
       {},
       {"SLURM_NODEID"},
       {"SLURM_STEP_NUM_NODES", "SLURM_NNODES"},
       {"MASTER_ADDR"},
       {"MASTER_PORT"},
       {"SLURM_RESTART_COUNT"},
       {"DDP_RUN_ID"}},
  }};
  return *std::find_if(kTable.begin(), kTable.end(),
                       [=](const auto& row) { return row.launcher == launcher; });
}

void check_contradictions(const EnvReader& reader, Launcher launcher) {
  // In a pod RANK counts pods, so mpirun inside one may differ from it.
  const bool rank_counts_pods = reader.has("PET_NPROC_PER_NODE");
  if (launcher == Launcher::kOpenMpi && !rank_counts_pods) {
    reader.must_agree("RANK", "OMPI_COMM_WORLD_RANK");
    reader.must_agree("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE");
  }
  if (launcher == Launcher::kPmi && !rank_counts_pods) {
    reader.must_agree("RANK", "PMI_RANK");
    reader.must_agree("WORLD_SIZE", "PMI_SIZE");
  }
  if (launcher == Launcher::kSlurm) reader.must_agree("SLURM_PROCID", "PMI_RANK");
  if (launcher == Launcher::kPyTorchJob) {
    reader.must_agree("RANK", "PET_NODE_RANK");
    reader.must_agree("MASTER_ADDR", "PET_MASTER_ADDR");
    reader.must_agree("MASTER_PORT", "PET_MASTER_PORT");
    // "min:max" of an elastic job says nothing certain.
    if (is_number(reader.raw("PET_NNODES").value_or(""))) reader.must_agree("WORLD_SIZE", "PET_NNODES");
  }
  if (launcher == Launcher::kDdprun) reader.must_agree("DDP_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT");
}

void check_pod(const EnvReader& reader, Launcher launcher) {
  if (launcher != Launcher::kPyTorchJob && launcher != Launcher::kTrainJob) return;
  check_processes_per_pod(reader);
  if (launcher == Launcher::kTrainJob && !reader.has("PET_NODE_RANK"))
    throw ConfigError(
        "this pod has PET_* variables but neither RANK nor PET_NODE_RANK: the ranks of an elastic job come "
        "from "
        "a rendezvous, which a launcher does (torchrun); a job of fixed size needs a Master replica");
  const bool standalone = reader.flag("PET_STANDALONE", true).value_or(false);
  const char* size = launcher == Launcher::kPyTorchJob ? "WORLD_SIZE" : "PET_NNODES";
  if (standalone && reader.raw(size).value_or("1") != "1")
    throw ConfigError(shown("PET_STANDALONE", *reader.raw("PET_STANDALONE")) +
                      " (on, also when empty) contradicts " + reader.show(size) +
                      ": a standalone job has one pod");
}

}  // namespace ddp
