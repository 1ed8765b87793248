#include <ddp/init.h>

#include <ddp/error.h>
#include <ddp/log.h>
#include <ddp/mpi_communicator.h>
#include <ddp/rendezvous.h>

#include "libddp/core/fd.h"
#include "libddp/reducer/cuda_library.h"
#include "libddp/reducer/reproducible.h"
#include "libddp/reducer/torchrun_store.h"
#include "libddp/rendezvous/auth.h"
#include "libddp/rendezvous/connect.h"

namespace ddp {
namespace {

void configure_logging(int rank) {
  log::Options options;
  if (const auto level = read_environment("DDP_LOG_LEVEL")) options.level = log::parse_level(*level);
  if (const auto format = read_environment("DDP_LOG_FORMAT")) options.format = log::parse_format(*format);
  log::configure(options);
  log::set_rank(rank);
}

c10::Device choose_device(const InitOptions& options, const ClusterEnv& env) {
  if (options.device == "cpu") return c10::Device(c10::kCPU);
  if (options.device != "cuda") throw ConfigError("device '" + options.device + "' is not one of cpu, cuda");
  if (env.world_size > 1)
    throw ConfigError(
        "device 'cuda' with " + std::to_string(env.world_size) +
        " ranks needs the NCCL backend, which this version does not have; use device 'cpu' or one process");
  const int devices = open_cuda();
  if (env.local_rank >= devices)
    throw ConfigError("local rank " + std::to_string(env.local_rank) + " has no GPU: this machine has " +
                      std::to_string(devices));
  return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(env.local_rank));
}

/// torchrun's agent keeps its store over restarts, so the prefix carries the attempt, as join_job's does.
std::shared_ptr<Store> join_torchrun(const ClusterEnv& env, const InitOptions& options) {
  auto store = connect_torchrun_store(env.master_addr, env.master_port, options.init_timeout);
  return make_prefix_store("ddp/attempt/" + std::to_string(env.restart_count) + "/", std::move(store));
}

/// Where ranks on other hosts reach this one: DDP_BIND_ADDRESS, or the address from which this machine
/// reaches the store.
std::string bind_address(const ClusterEnv& env) {
  if (auto given = read_environment("DDP_BIND_ADDRESS"); given && !given->empty()) return *given;
  return env.node_count > 1 ? local_address_towards(env.master_addr) : "";
}

HostCommunicatorOptions communicator_options(const ClusterEnv& env, const InitOptions& options) {
  HostCommunicatorOptions result;
  result.rank = env.rank;
  result.world_size = env.world_size;
  result.init_timeout = options.init_timeout;
  result.timeout = options.timeout;
  result.bind_address = bind_address(env);
  result.token = load_job_token(read_environment).value_or("");
  result.host_name = host_name();
  return result;
}

std::string choose_backend(const InitOptions& options) {
  const std::string given =
      options.backend.empty() ? read_environment("DDP_BACKEND").value_or("auto") : options.backend;
  if (given == "auto" || given.empty()) return "host";
  if (given != "host" && given != "mpi")
    throw ConfigError((options.backend.empty() ? "DDP_BACKEND='" : "backend '") + given +
                      "' is not one of auto, host, mpi");
  return given;
}

std::shared_ptr<Communicator> make_communicator(const std::string& backend, const ClusterEnv& env,
                                                const InitOptions& options,
                                                const std::shared_ptr<Store>& store) {
  if (backend == "host")
    return make_host_communicator(communicator_options(env, options), make_prefix_store("comm/", store));
  return make_mpi_communicator({.rank = env.rank,
                                .world_size = env.world_size,
                                .init_timeout = options.init_timeout,
                                .timeout = options.timeout,
                                .host_name = host_name()});
}

}  // namespace

Context init(const InitOptions& options) {
  if (options.reproducible) request_reproducible_kernels();
  ClusterEnv env = ClusterEnv::from_environment();
  configure_logging(env.rank);
  log::debug("environment read", {{"env", env.describe()}});
  const std::string backend = choose_backend(options);
  const c10::Device device = choose_device(options, env);
  const bool torchrun_store = env.launcher == Launcher::kTorchrun && env.launcher_hosts_store;
  auto store =
      torchrun_store ? join_torchrun(env, options) : join_job(env, {.timeout = options.init_timeout});
  auto communicator = make_communicator(backend, env, options, store);
  auto group = make_store_group(make_prefix_store("group/", store), env.rank, env.world_size,
                                [communicator](int rank) { communicator->check_peer(rank); });
  if (env.rank == 0)
    log::info("process group ready", {{"launcher", to_string(env.launcher)},
                                      {"world_size", env.world_size},
                                      {"nodes", env.node_count},
                                      {"backend", communicator->backend()},
                                      {"device", device.str()}});
  return Context(std::move(env), std::move(store), std::move(communicator), std::move(group), device);
}

}  // namespace ddp
