#include "libddp/rendezvous/endpoint_rules.h"

#include <algorithm>
#include <cctype>

#include <ddp/error.h>

#include "libddp/rendezvous/hostlist.h"
#include "libddp/rendezvous/launchers.h"

namespace ddp {
namespace {

constexpr int kDefaultPort = 29500;  // PyTorch's; used where a launcher gives an address but no port

bool starts_processes_itself(Launcher launcher) {
  return launcher == Launcher::kOpenMpi || launcher == Launcher::kPmi || launcher == Launcher::kSlurm;
}

/// A name that every rank of the job computes alike and no other job on this host does.
Found<std::string> job_identity(const EnvReader& reader, const ProcessIdentity& process, Launcher launcher) {
  if (launcher == Launcher::kSlurm) {
    const auto job = reader.text({"SLURM_JOB_ID", "SLURM_JOBID"});
    const auto step = reader.text({"SLURM_STEP_ID", "SLURM_STEPID"});
    if (job && step) return {"slurm-" + job->value + "." + step->value, job->name + " and " + step->name};
  } else if (auto id = reader.text({"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_PORT"})) {
    return {"mpi-" + id->value, id->name};
  }
  return {"parent-" + std::to_string(process.parent), "the shared parent process"};
}

std::string socket_name(std::string identity, const ProcessIdentity& process) {
  std::replace_if(
      identity.begin(), identity.end(),
      [](unsigned char c) { return std::isalnum(c) == 0 && c != '.' && c != '-'; }, '_');
  return "unix:@ddp-" + std::to_string(process.uid) + "-" + identity.substr(0, 64);
}

/// Two jobs on one node should not meet: the port follows from the job's number and lies below the ephemeral range.
int slurm_port(const EnvReader& reader) {
  const auto job = reader.integer({"SLURM_JOB_ID", "SLURM_JOBID"}, 0, 1 << 30);
  return job ? 15000 + job->value % 15000 : kDefaultPort;
}

void set_addr(ClusterEnv& env, std::string address, std::string source) {
  env.master_addr = std::move(address);
  env.sources["master_addr"] = std::move(source);
}

void set_port(ClusterEnv& env, int port, std::string source) {
  env.master_port = static_cast<std::uint16_t>(port);
  env.sources["master_port"] = std::move(source);
}

void derive_address(const EnvReader& reader, const ProcessIdentity& process, bool port_given,
                    ClusterEnv& env) {
  if (env.node_count == 1) {
    if (port_given) return set_addr(env, "127.0.0.1", "one host");
    const auto identity = job_identity(reader, process, env.launcher);
    return set_addr(env, socket_name(identity.value, process), "one host, named by " + identity.name);
  }
  const auto list = reader.raw("SLURM_STEP_NODELIST");
  if (env.launcher == Launcher::kSlurm && list && !list->empty())
    return set_addr(env, expand_hostlist("SLURM_STEP_NODELIST", *list).front(),
                    "first of SLURM_STEP_NODELIST");
  const std::string how = env.launcher == Launcher::kOpenMpi
                              ? "mpirun -x MASTER_ADDR=<host of rank 0> -x MASTER_PORT=29500 ..."
                              : "export MASTER_ADDR=<host of rank 0> MASTER_PORT=29500 for every rank";
  throw ConfigError("this job of " + std::to_string(env.world_size) + " ranks runs on several hosts (" +
                    std::to_string(env.local_world_size) +
                    " ranks here) and MASTER_ADDR is not set, so the ranks cannot find each other: " + how);
}

void derive_port(const EnvReader& reader, ClusterEnv& env) {
  if (env.master_addr.starts_with("unix:")) return set_port(env, 0, "not needed");
  if (env.launcher == Launcher::kSlurm) return set_port(env, slurm_port(reader), "derived from SLURM_JOB_ID");
  set_port(env, kDefaultPort, "default");
}

void require_endpoint(const EnvReader& reader, const LauncherNames& names, bool addr, bool port,
                      const ClusterEnv& env) {
  if (addr && port) return;
  const char* missing = addr ? *names.master_port.begin() : *names.master_addr.begin();
  throw ConfigError(std::string(missing) + " is not set: " + std::to_string(env.world_size) +
                    " ranks find each other at MASTER_ADDR:MASTER_PORT, where rank 0 listens (" +
                    reader.show(addr ? *names.master_addr.begin() : *names.master_port.begin()) + ")");
}

}  // namespace

void read_endpoint(const EnvReader& reader, const ProcessIdentity& process, ClusterEnv& env) {
  const LauncherNames& names = names_of(env.launcher);
  const auto address = reader.address(names.master_addr);
  const auto port = reader.port(names.master_port);
  if (address) set_addr(env, address->value, address->name);
  if (port) set_port(env, port->value, port->name);
  if (env.launcher == Launcher::kTorchrun)
    env.launcher_hosts_store = reader.flag("TORCHELASTIC_USE_AGENT_STORE").value_or(false);
  if (env.launcher == Launcher::kDdprun)
    env.launcher_hosts_store = reader.flag("DDP_AGENT_STORE").value_or(false);
  if (starts_processes_itself(env.launcher) && env.world_size > 1) {
    if (!address) derive_address(reader, process, port.has_value(), env);
    if (!port) derive_port(reader, env);
    if (env.run_id.empty()) env.run_id = job_identity(reader, process, env.launcher).value;
    if (env.run_id.starts_with("parent-")) env.run_id.clear();  // differs from host to host
  } else if (env.world_size > 1 || env.launcher_hosts_store) {
    require_endpoint(reader, names, address.has_value(), port.has_value(), env);
  }
}

}  // namespace ddp
