#include "launcher/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cxxopts.hpp>
#include <limits>
#include <optional>

#include <ddp/error.h>

#include "launcher/node.h"

namespace ddp::launcher {
namespace {

struct Spec {
  const char* name;
  bool takes_value;
  const char* value_name;
  const char* help;
};

constexpr std::array kSpecs = {
    Spec{"nproc-per-node", true, "N",
         "workers on this node, or auto: the CPUs this container may use (default 1)"},
    Spec{"nnodes", true, "M", "nodes of the job; ddprun is started once on each (default 1)"},
    Spec{"node-rank", true, "R", "which of the nodes this is, 0 to M-1"},
    Spec{"master-addr", true, "HOST", "name or address of node 0 (needed with several nodes)"},
    Spec{"master-port", true, "PORT",
         "port on node 0 where the nodes of a job meet (default 29500; one node needs none)"},
    Spec{"standalone", false, "", "one node; ignore every address, rank and node count found elsewhere"},
    Spec{"max-restarts", true, "N", "how often all workers are restarted after a failure (default 0)"},
    Spec{"run-id", true, "ID", "name of the job, handed to the workers (also --rdzv-id)"},
    Spec{"rdzv-id", true, "ID", "torchrun's spelling of --run-id"},
    Spec{"role", true, "NAME", "ROLE_NAME of the workers (default \"default\")"},
    Spec{"log-dir", true, "DIR", "also write DIR/attempt_N/rank_K/{stdout,stderr}.log"},
    Spec{"grace-period", true, "SECONDS",
         "time from SIGTERM to SIGKILL when workers are stopped (default 30)"},
    Spec{"join-timeout", true, "SECONDS",
         "how long a node waits for the others, at the start and after a failure (default 600)"},
    Spec{"heartbeat-timeout", true, "SECONDS", "silence after which a node counts as lost (default 30)"},
    Spec{"no-prefix", false, "", "do not put [rank] in front of each line"},
    Spec{"no-python", false, "", "accepted for torchrun's sake: programs are always started as they are"},
    Spec{"dry-run", false, "", "print what would be started, start nothing"},
    Spec{"help", false, "", "this text"},
    Spec{"version", false, "", "print the version"},
};

const Spec* find_spec(std::string_view name) {
  for (const auto& spec : kSpecs)
    if (spec.name == name) return &spec;
  return nullptr;
}

cxxopts::Options make_parser() {
  cxxopts::Options parser("ddprun", "Starts a data-parallel program: N copies on each node, one rank each.");
  parser.custom_help("[options] program [arguments...]");
  for (const auto& spec : kSpecs) {
    const std::string name = std::string(spec.name) == "help" ? "h,help" : spec.name;
    if (spec.takes_value)
      parser.add_options()(name, spec.help, cxxopts::value<std::string>(), spec.value_name);
    else
      parser.add_options()(name, spec.help);
  }
  return parser;
}

/// ddprun's own options end at the first word that is neither an option nor an option's value: everything
/// from there on belongs to the program, however much it looks like an option of ours.
struct Split {
  std::vector<std::string> own;
  std::vector<std::string> program;
};

std::string canonical_name(const std::string& word) {
  std::string name = word.substr(2, word.find('=') == std::string::npos ? word.npos : word.find('=') - 2);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

Split split(const std::vector<std::string>& arguments) {
  Split result{{arguments.empty() ? "ddprun" : arguments[0]}, {}};
  std::size_t i = 1;
  for (; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--") {
      ++i;
      break;
    }
    if (word == "-h") {
      result.own.emplace_back("--help");
      continue;
    }
    if (word.size() < 2 || word[0] != '-') break;
    const Spec* spec = word.starts_with("--") ? find_spec(canonical_name(word)) : nullptr;
    if (spec == nullptr)
      throw ConfigError("unknown option '" + word +
                        "'. Options of ddprun stand before the program, the program's after it; see --help.");
    const auto equals = word.find('=');
    std::string own = "--" + std::string(spec->name);
    if (spec->takes_value) {
      if (equals == std::string::npos && i + 1 == arguments.size())
        throw ConfigError("option " + own + " needs a value: " + own + " " + spec->value_name);
      own += "=" + (equals == std::string::npos ? arguments[++i] : word.substr(equals + 1));
    } else if (equals != std::string::npos) {
      throw ConfigError("option " + own + " takes no value, got '" + word + "'");
    }
    result.own.push_back(own);
  }
  for (; i < arguments.size(); ++i) result.program.push_back(arguments[i]);
  return result;
}

/// A setting and where it came from, for messages.
struct Setting {
  std::string value;
  std::string source;
};

class Settings {
 public:
  Settings(const cxxopts::ParseResult& parsed, const Environment& environment)
      : parsed_(parsed), environment_(environment) {}

  [[nodiscard]] std::optional<Setting> find(const std::string& name,
                                            std::initializer_list<const char*> others = {}) const {
    if (parsed_.count(name) > 0) return Setting{parsed_[name].as<std::string>(), "--" + name};
    if (auto pet = variable(pet_name(name))) return pet;
    for (const char* other : others)
      if (auto found = variable(other)) return found;
    return std::nullopt;
  }

  [[nodiscard]] bool flag(const std::string& name) const {
    if (parsed_.count(name) > 0) return true;
    const auto value = environment_.get(pet_name(name));
    if (!value) return false;
    // Kubeflow sets PET_STANDALONE to the empty string and means yes.
    if (value->empty() || *value == "1" || *value == "true") return true;
    if (*value == "0" || *value == "false") return false;
    throw ConfigError(pet_name(name) + "='" + *value + "' is not a yes or no: use 1 or 0");
  }

 private:
  [[nodiscard]] std::optional<Setting> variable(const std::string& name) const {
    const auto value = environment_.get(name);
    if (!value || value->empty()) return std::nullopt;
    return Setting{*value, name};
  }
  static std::string pet_name(const std::string& name) {
    std::string pet = "PET_" + name;
    std::transform(pet.begin(), pet.end(), pet.begin(),
                   [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::toupper(c)); });
    return pet;
  }
  const cxxopts::ParseResult& parsed_;
  const Environment& environment_;
};

int to_integer(const Setting& setting, int low, int high) {
  int value = 0;
  const char* end = setting.value.data() + setting.value.size();
  const auto [stop, error] = std::from_chars(setting.value.data(), end, value);
  if (error != std::errc() || stop != end || value < low || value > high)
    throw ConfigError(setting.source + "='" + setting.value.substr(0, 80) + "' is not a whole number from " +
                      std::to_string(low) + " to " + std::to_string(high));
  return value;
}

constexpr int kMaxWorkers = 4096;
constexpr int kMaxNodes = 65536;

int to_nproc(const Setting& setting, const std::function<int()>& auto_cpus) {
  if (setting.value == "auto" || setting.value == "cpu") return std::clamp(auto_cpus(), 1, kMaxWorkers);
  if (setting.value == "gpu")
    throw ConfigError(setting.source + "=gpu: ddprun does not look at GPUs, give their number instead");
  return to_integer(setting, 1, kMaxWorkers);
}

int to_nnodes(const Setting& setting) {
  const auto colon = setting.value.find(':');
  if (colon == std::string::npos) return to_integer(setting, 1, kMaxNodes);
  const int low = to_integer({setting.value.substr(0, colon), setting.source}, 1, kMaxNodes);
  const int high = to_integer({setting.value.substr(colon + 1), setting.source}, 1, kMaxNodes);
  if (low != high)
    throw ConfigError(setting.source + "='" + setting.value +
                      "': ddprun runs jobs of a fixed number of nodes; give one number");
  return low;
}

std::chrono::milliseconds to_seconds(const Setting& setting) {
  double seconds = 0;
  const char* end = setting.value.data() + setting.value.size();
  const auto [stop, error] = std::from_chars(setting.value.data(), end, seconds);
  if (error != std::errc() || stop != end || !(seconds >= 0) || seconds > 86400)
    throw ConfigError(setting.source + "='" + setting.value.substr(0, 80) +
                      "' is not a number of seconds from 0 to 86400");
  return std::chrono::milliseconds(static_cast<long>(seconds * 1000));
}

/// Slurm tells the nodes of the step in a compressed list; node 0 is its first.
std::optional<Setting> slurm_master(const Environment& environment) {
  const auto list = environment.get("SLURM_STEP_NODELIST");
  if (!list || list->empty()) return std::nullopt;
  return Setting{first_slurm_host(*list), "SLURM_STEP_NODELIST"};
}

void place_node(Options& options, const Settings& settings, const Environment& environment) {
  if (auto nnodes = settings.find("nnodes", {"SLURM_STEP_NUM_NODES"})) options.nnodes = to_nnodes(*nnodes);
  // In a PyTorchJob RANK is the index of the pod; PET_NODE_RANK says the same and is asked first.
  const bool pod = environment.get("PET_NPROC_PER_NODE").has_value();
  const auto node_rank = settings.find("node-rank", {pod ? "RANK" : "SLURM_NODEID", "SLURM_NODEID"});
  if (node_rank && options.nnodes > 1) options.node_rank = to_integer(*node_rank, 0, options.nnodes - 1);
  if (node_rank && options.nnodes == 1 && to_integer(*node_rank, 0, INT_MAX) != 0)
    throw ConfigError(node_rank->source + "=" + node_rank->value +
                      " but the job has one node: give --nnodes too, or drop it");
  if (!node_rank && options.nnodes > 1)
    throw ConfigError("--nnodes=" + std::to_string(options.nnodes) +
                      " needs --node-rank (or PET_NODE_RANK): which node is this, 0 to " +
                      std::to_string(options.nnodes - 1) + "?");
  auto master = settings.find("master-addr", {"MASTER_ADDR"});
  if (!master) master = slurm_master(environment);
  if (options.nnodes == 1) return;
  if (!master)
    throw ConfigError(
        "several nodes need --master-addr (or PET_MASTER_ADDR, MASTER_ADDR): the name or address of node 0");
  options.master_addr = master->value;
}

void choose_port(Options& options, const Settings& settings) {
  if (options.nnodes == 1) return;
  const std::optional<Setting> port = settings.find("master-port", {"MASTER_PORT"});
  options.master_port = port ? static_cast<std::uint16_t>(to_integer(*port, 1, 65535)) : 29500;
}

void check(const Options& options) {
  if (options.program.empty())
    throw ConfigError("no program given. Usage: ddprun [options] program [arguments...]; see --help.");
  if (options.program[0].empty()) throw ConfigError("the program's name is empty");
  if (static_cast<long>(options.nnodes) * options.nproc_per_node > INT_MAX)
    throw ConfigError("more workers than ranks can count");
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments, const Environment& environment,
                      const std::function<int()>& auto_cpus) {
  const Split words = split(arguments);
  std::vector<const char*> argv;
  for (const auto& word : words.own) argv.push_back(word.c_str());
  auto parser = make_parser();
  const auto parsed = parser.parse(static_cast<int>(argv.size()), argv.data());
  const Settings settings(parsed, environment);

  Options options;
  options.help = parsed.count("help") > 0;
  options.version = parsed.count("version") > 0;
  if (options.help || options.version) return options;
  options.program = words.program;
  options.no_prefix = settings.flag("no-prefix");
  options.dry_run = settings.flag("dry-run");
  if (auto nproc = settings.find("nproc-per-node")) options.nproc_per_node = to_nproc(*nproc, auto_cpus);
  if (!settings.flag("standalone")) place_node(options, settings, environment);
  choose_port(options, settings);
  if (auto restarts = settings.find("max-restarts")) options.max_restarts = to_integer(*restarts, 0, 1000000);
  if (auto grace = settings.find("grace-period")) options.grace_period = to_seconds(*grace);
  if (auto join = settings.find("join-timeout")) options.join_timeout = to_seconds(*join);
  if (auto beat = settings.find("heartbeat-timeout")) options.heartbeat_timeout = to_seconds(*beat);
  if (auto id = settings.find("run-id"))
    options.run_id = id->value;
  else if (auto rdzv = settings.find("rdzv-id", {"SLURM_JOB_ID"}))
    options.run_id = rdzv->value;
  if (auto role = settings.find("role")) options.role = role->value;
  if (auto logs = settings.find("log-dir")) options.log_dir = logs->value;
  check(options);
  return options;
}

std::string help_text() {
  return make_parser().help() + R"(
Every option is also read from PET_<NAME> (PET_NPROC_PER_NODE=4), as torchrun does, and from what PyTorchJob,
TrainJob and Slurm (srun, one ddprun a node) set; the command line wins. Underscores may replace dashes.

Workers find RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT and the rest
of torchrun's variables. Only the first worker of a node reads ddprun's standard input.

Exit code: 0 when every worker returned 0; otherwise that of the worker that failed first, 128 + signal when a
signal ended it or ddprun; 2 bad options; 126, 127 the program cannot be started.

Examples
  ddprun --nproc-per-node 2 ./train --lr 3e-4
  ddprun --nproc-per-node auto --max-restarts 3 --log-dir logs ./train
  ddprun --nproc-per-node 4 --nnodes 2 --node-rank 0 --master-addr node-0 ./train      (and node-rank 1 there)
  ddprun --nproc-per-node 2 python3 train.py
)";
}

}  // namespace ddp::launcher
