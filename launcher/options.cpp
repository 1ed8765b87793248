#include "launcher/options.h"

#include <algorithm>
#include <charconv>
#include <climits>
#include <optional>

#include <ddp/error.h>

#include "launcher/option_words.h"
#include "libddp/rendezvous/env_reader.h"
#include "libddp/rendezvous/hostlist.h"

namespace ddp::launcher {
namespace {

/// --max-restarts='x', shortened and without control characters.
std::string shown(const Setting& setting) {
  return ddp::shown(setting.source, setting.value);
}

int to_integer(const Setting& setting, int low, int high) {
  int value = 0;
  const char* end = setting.value.data() + setting.value.size();
  const auto [stop, error] = std::from_chars(setting.value.data(), end, value);
  if (error != std::errc() || stop != end || value < low || value > high)
    throw ConfigError(shown(setting) + " is not a whole number from " + std::to_string(low) + " to " +
                      std::to_string(high));
  return value;
}

constexpr int kMaxWorkers = 4096;
constexpr int kMaxNodes = 65536;

int to_nproc(const Setting& setting, const std::function<int()>& auto_cpus) {
  if (setting.value == "auto" || setting.value == "cpu") return std::clamp(auto_cpus(), 1, kMaxWorkers);
  if (setting.value == "gpu")
    throw ConfigError(shown(setting) + ": ddprun does not look at GPUs, give their number instead");
  return to_integer(setting, 1, kMaxWorkers);
}

int to_nnodes(const Setting& setting) {
  const auto colon = setting.value.find(':');
  if (colon == std::string::npos) return to_integer(setting, 1, kMaxNodes);
  const int low = to_integer({setting.value.substr(0, colon), setting.source}, 1, kMaxNodes);
  const int high = to_integer({setting.value.substr(colon + 1), setting.source}, 1, kMaxNodes);
  if (low != high)
    throw ConfigError(shown(setting) + ": ddprun runs jobs of a fixed number of nodes; give one number");
  return low;
}

std::chrono::milliseconds to_seconds(const Setting& setting, int low) {
  double seconds = 0;
  const char* end = setting.value.data() + setting.value.size();
  const auto [stop, error] = std::from_chars(setting.value.data(), end, seconds);
  if (error != std::errc() || stop != end || !(seconds >= low) || seconds > 86400)
    throw ConfigError(shown(setting) + " is not a number of seconds from " + std::to_string(low) +
                      " to 86400");
  return std::chrono::milliseconds(static_cast<long>(seconds * 1000));
}

/// Slurm tells the nodes of the step in a compressed list; node 0 is its first.
std::optional<Setting> slurm_master(const Environment& environment) {
  const auto list = environment.get("SLURM_STEP_NODELIST");
  if (!list || list->empty()) return std::nullopt;
  return Setting{expand_hostlist("SLURM_STEP_NODELIST", *list).front(), "SLURM_STEP_NODELIST"};
}

/// A pod of a PyTorchJob. Whoever sets LOCAL_RANK is a launcher itself: then RANK is a worker's.
bool in_pod(const Environment& environment) {
  return environment.get("PET_NPROC_PER_NODE") && !environment.get("LOCAL_RANK");
}

/// In a PyTorchJob RANK is the index of the pod; PET_NODE_RANK says the same and is asked first.
std::optional<Setting> find_node_rank(const Settings& settings, const Environment& environment) {
  if (!in_pod(environment)) return settings.find("node-rank", {"SLURM_NODEID"});
  const auto found = settings.find("node-rank", {"RANK"});
  const auto rank = environment.get("RANK");
  if (found && found->source == "PET_NODE_RANK" && rank && *rank != found->value)
    throw ConfigError(shown(*found) + " contradicts " + ddp::shown("RANK", *rank) +
                      " (the index of this pod): unset the wrong one or give --node-rank");
  return found;
}

void place_on_one_node(Options& options, const Settings& settings, const Environment& environment) {
  const auto rank = find_node_rank(settings, environment);
  // Slurm numbers the nodes of its step, not those of this job.
  if (rank && rank->source != "SLURM_NODEID" && to_integer(*rank, 0, INT_MAX) != 0)
    throw ConfigError(shown(*rank) + " but the job has one node: give --nnodes too, or --standalone");
  // On one node a port need not be agreed on; who gives one to ddprun itself wants the workers to have it.
  if (const auto port = settings.find("master-port"))
    options.master_port = static_cast<std::uint16_t>(to_integer(*port, 1, 65535));
}

void place_among_nodes(Options& options, const Settings& settings, const Environment& environment) {
  const std::string nnodes = "--nnodes=" + std::to_string(options.nnodes);
  const auto rank = find_node_rank(settings, environment);
  if (!rank)
    throw ConfigError(nnodes + " needs --node-rank (or PET_NODE_RANK): which node is this, 0 to " +
                      std::to_string(options.nnodes - 1) + "?");
  options.node_rank = to_integer(*rank, 0, INT_MAX);
  if (options.node_rank >= options.nnodes)
    throw ConfigError(shown(*rank) + " is not below " + nnodes + ": nodes are counted from 0");
  auto master = settings.find("master-addr", {"MASTER_ADDR"});
  if (!master) master = slurm_master(environment);
  if (!master)
    throw ConfigError(
        "several nodes need --master-addr (or PET_MASTER_ADDR, MASTER_ADDR): the name or address of node 0");
  const EnvLookup only = [&master](std::string_view) { return master->value; };
  options.master_addr = EnvReader(only).address({master->source.c_str()})->value;
  const auto port = settings.find("master-port", {"MASTER_PORT"});
  options.master_port = port ? static_cast<std::uint16_t>(to_integer(*port, 1, 65535)) : 29500;
}

void place_node(Options& options, const Settings& settings, const Environment& environment) {
  const auto nnodes = settings.find("nnodes", {"SLURM_STEP_NUM_NODES"});
  if (settings.flag("standalone")) {
    const auto rank = settings.word("node-rank");
    if (settings.word("nnodes") && to_nnodes(*nnodes) != 1)
      throw ConfigError("--standalone means one node, but " + shown(*nnodes) + ": drop one of them");
    if (rank && to_integer(*rank, 0, INT_MAX) != 0)
      throw ConfigError("--standalone means one node, but " + shown(*rank) + ": drop one of them");
    return;
  }
  if (nnodes) options.nnodes = to_nnodes(*nnodes);
  options.nnodes == 1 ? place_on_one_node(options, settings, environment)
                      : place_among_nodes(options, settings, environment);
}

void check(const Options& options) {
  if (options.program.empty())
    throw ConfigError("no program given. Usage: ddprun [options] program [arguments...]; see --help.");
  if (options.program[0].empty()) throw ConfigError("the program's name is empty");
  if (static_cast<long>(options.nnodes) * options.nproc_per_node > INT_MAX)
    throw ConfigError("more workers than ranks can count");
}

/// SLURM_JOB_ID names a job, but not in a pod and not under the name somebody gave.
std::string find_run_id(const Settings& settings) {
  if (const auto id = settings.word("run-id")) return id->value;
  if (const auto id = settings.word("rdzv-id")) return id->value;
  if (const auto id = settings.find("run-id")) return id->value;
  const auto id = settings.find("rdzv-id", {"SLURM_JOB_ID"});
  return id ? id->value : "";
}

void read_times(Options& options, const Settings& settings) {
  if (const auto grace = settings.find("grace-period")) options.grace_period = to_seconds(*grace, 0);
  if (const auto join = settings.find("join-timeout")) options.join_timeout = to_seconds(*join, 0);
  // Hearts beat five times in that time, at most once a second.
  if (const auto beat = settings.find("heartbeat-timeout")) options.heartbeat_timeout = to_seconds(*beat, 1);
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments, const Environment& environment,
                      const std::function<int()>& auto_cpus) {
  const OptionWords words = split_words(arguments);
  const Settings settings(words, environment);
  Options options;
  options.help = settings.word("help").has_value();
  options.version = settings.word("version").has_value();
  if (options.help || options.version) return options;
  options.program = words.program;
  options.no_prefix = settings.flag("no-prefix");
  options.dry_run = settings.flag("dry-run");
  if (const auto nproc = settings.find("nproc-per-node"))
    options.nproc_per_node = to_nproc(*nproc, auto_cpus);
  place_node(options, settings, environment);
  if (const auto restarts = settings.find("max-restarts"))
    options.max_restarts = to_integer(*restarts, 0, 1000000);
  read_times(options, settings);
  options.run_id = find_run_id(settings);
  if (const auto role = settings.find("role")) options.role = role->value;
  if (const auto logs = settings.find("log-dir")) options.log_dir = logs->value;
  check(options);
  return options;
}

}  // namespace ddp::launcher
