#include "launcher/worker_environment.h"

namespace ddp::launcher {

std::string worker_folder(const Options& options, int attempt, int rank) {
  return options.log_dir + "/attempt_" + std::to_string(attempt) + "/rank_" + std::to_string(rank);
}

Environment worker_environment(const Environment& inherited, const Options& options, const Attempt& attempt,
                               int local_rank) {
  Environment env = inherited;
  const auto set = [&env](const char* name, int value) { env.set(name, std::to_string(value)); };
  const int rank = options.first_rank() + local_rank;
  set("RANK", rank);
  set("LOCAL_RANK", local_rank);
  set("WORLD_SIZE", options.world_size());
  set("LOCAL_WORLD_SIZE", options.nproc_per_node);
  set("GROUP_RANK", options.node_rank);
  set("GROUP_WORLD_SIZE", options.nnodes);
  set("ROLE_RANK", rank);
  set("ROLE_WORLD_SIZE", options.world_size());
  env.set("ROLE_NAME", options.role);
  env.set("MASTER_ADDR", options.master_addr);
  set("MASTER_PORT", attempt.master_port);
  const std::string run_id = options.run_id.empty() ? "none" : options.run_id;
  set("TORCHELASTIC_RESTART_COUNT", attempt.number);
  set("TORCHELASTIC_MAX_RESTARTS", options.max_restarts);
  env.set("TORCHELASTIC_RUN_ID", run_id);
  // Nobody listens on MASTER_PORT yet: rank 0 of a PyTorch program binds it. libddp uses ddprun's store.
  env.set("TORCHELASTIC_USE_AGENT_STORE", "False");
  // As torchrun: a collective of NCCL that fails ends the process instead of hanging it.
  if (!inherited.get("TORCH_NCCL_ASYNC_ERROR_HANDLING")) env.set("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
  env.unset("TORCHELASTIC_ERROR_FILE");
  if (!options.log_dir.empty())
    env.set("TORCHELASTIC_ERROR_FILE", worker_folder(options, attempt.number, rank) + "/error.json");
  env.set("DDP_LAUNCHER", "ddprun");
  set("DDP_RESTART_COUNT", attempt.number);
  set("DDP_MAX_RESTARTS", options.max_restarts);
  env.set("DDP_RUN_ID", run_id);
  env.set("DDP_AGENT_STORE", "1");
  env.set("DDP_STORE_ADDR", attempt.store_addr);
  set("DDP_STORE_PORT", attempt.store_port);
  // N workers with a thread pool as wide as the machine each would only take turns.
  if (options.nproc_per_node > 1 && !inherited.get("OMP_NUM_THREADS")) env.set("OMP_NUM_THREADS", "1");
  env.unset("DDP_JOB_TOKEN");
  env.unset("DDP_JOB_TOKEN_FILE");
  if (!attempt.token_file.empty()) env.set("DDP_JOB_TOKEN_FILE", attempt.token_file);
  return env;
}

}  // namespace ddp::launcher
