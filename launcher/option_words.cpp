#include "launcher/option_words.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cxxopts.hpp>

#include <ddp/error.h>

#include "launcher/options.h"
#include "libddp/rendezvous/env_reader.h"

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
         "port on node 0 where the nodes of a job meet (default 29500); with one node the workers' "
         "MASTER_PORT (default: a free one)"},
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
    Spec{"heartbeat-timeout", true, "SECONDS",
         "silence after which a node counts as lost, at least 1 (default 30)"},
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

/// Only for the help text: split() reads the words, because it must know where the program begins.
cxxopts::Options make_help() {
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

std::string canonical_name(const std::string& word) {
  std::string name = word.substr(2, word.find('=') == std::string::npos ? word.npos : word.find('=') - 2);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string pet_name(const std::string& name) {
  std::string pet = "PET_" + name;
  std::transform(pet.begin(), pet.end(), pet.begin(),
                 [](unsigned char c) { return c == '-' ? '_' : static_cast<char>(std::toupper(c)); });
  return pet;
}

/// The value of `spec` at arguments[i]; moves i to it when it is a word of its own.
std::string option_value(const Spec& spec, const std::vector<std::string>& arguments, std::size_t& i) {
  const std::string& word = arguments[i];
  const std::string own = "--" + std::string(spec.name);
  const auto equals = word.find('=');
  if (!spec.takes_value && equals != std::string::npos)
    throw ConfigError("option " + own + " takes no value, got '" + word + "'");
  if (!spec.takes_value) return "1";
  if (equals == std::string::npos && i + 1 == arguments.size())
    throw ConfigError("option " + own + " needs a value: " + own + " " + spec.value_name);
  std::string value = equals == std::string::npos ? arguments[++i] : word.substr(equals + 1);
  if (value.empty())
    throw ConfigError("option " + own + " got an empty value: " + own + " " + spec.value_name);
  return value;
}

}  // namespace

OptionWords split_words(const std::vector<std::string>& arguments) {
  OptionWords result;
  std::size_t i = 1;
  for (; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--") {
      ++i;
      break;
    }
    if (word.size() < 2 || word[0] != '-') break;
    const Spec* spec = word.starts_with("--") ? find_spec(canonical_name(word)) : nullptr;
    if (word == "-h") spec = find_spec("help");
    if (spec == nullptr)
      throw ConfigError("unknown option '" + word +
                        "'. Options of ddprun stand before the program, the program's after it; see --help.");
    result.own.insert_or_assign(spec->name, option_value(*spec, arguments, i));
  }
  for (; i < arguments.size(); ++i) result.program.push_back(arguments[i]);
  return result;
}

std::optional<Setting> Settings::find(const std::string& name,
                                      std::initializer_list<const char*> others) const {
  if (auto given = word(name)) return given;
  if (auto pet = variable(pet_name(name))) return pet;
  for (const char* other : others)
    if (auto found = variable(other)) return found;
  return std::nullopt;
}

std::optional<Setting> Settings::word(const std::string& name) const {
  const auto found = words_.own.find(name);
  if (found == words_.own.end()) return std::nullopt;
  return Setting{found->second, "--" + name};
}

bool Settings::flag(const std::string& name) const {
  if (word(name)) return true;
  const EnvLookup lookup = [this](std::string_view variable) { return environment_.get(variable); };
  // Kubeflow sets PET_STANDALONE to the empty string and means yes.
  return EnvReader(lookup).flag(pet_name(name).c_str(), true).value_or(false);
}

std::optional<Setting> Settings::variable(const std::string& name) const {
  const auto value = environment_.get(name);
  if (!value || value->empty()) return std::nullopt;
  return Setting{*value, name};
}

std::string help_text() {
  return make_help().help() + R"(
Every option is also read from PET_<NAME> (PET_NPROC_PER_NODE=4), as torchrun does, and from what PyTorchJob,
TrainJob and Slurm (srun, one ddprun a node) set; the command line wins. Underscores may replace dashes.

Workers find RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT and the rest
of torchrun's variables. Only the first worker of a node reads ddprun's standard input.

Exit code: 0 when every worker returned 0; otherwise that of the worker that failed first, 128 + signal when a
signal ended it or ddprun; 2 bad options; 126, 127 the program cannot be started; 1 when output was lost
(a full disk) though all went well. With several nodes all return
the same. A worker that returns 78 (EX_CONFIG; ddp::kExitDoNotRestart) is not restarted: it says that it would not
help.

Signals: SIGTERM, SIGINT, SIGQUIT and SIGHUP go to all workers and end the job, a second one kills at once;
SIGUSR1 and SIGUSR2 are passed on. When ddprun returns, no process that a worker started is left, however it was
started. When ddprun itself is killed with SIGKILL the kernel kills the workers too, but not what they started,
unless ddprun was process 1 of a container.

Several nodes: start ddprun on each with the same options but --node-rank, and the same secret in
DDP_JOB_TOKEN_FILE. They meet at --master-port of node 0; the workers' MASTER_PORT is another port, new in each
attempt. A ddprun that died may be started again: it joins the next attempt, which counts as a restart.

Examples
  ddprun --nproc-per-node 2 ./train --lr 3e-4
  ddprun --nproc-per-node auto --max-restarts 3 --log-dir logs ./train
  ddprun --nproc-per-node 4 --nnodes 2 --node-rank 0 --master-addr node-0 ./train      (and node-rank 1 there)
  ddprun --nproc-per-node 2 python3 train.py
)";
}

}  // namespace ddp::launcher
