#include "libddp/rendezvous/node_env.h"

#include <ddp/error.h>

#include "libddp/rendezvous/cluster_fields.h"
#include "libddp/rendezvous/env_reader.h"
#include "libddp/rendezvous/hostlist.h"

namespace ddp {
namespace {

/// PET_NNODES: "4" or torchrun's "min:max", of which only min == max is a fixed number.
void read_node_count(const EnvReader& reader, NodeEnv& node) {
  const auto pet = reader.text({"PET_NNODES"});
  if (pet && pet->value.find(':') != std::string::npos) {
    const auto colon = pet->value.find(':');
    const std::string low = pet->value.substr(0, colon), high = pet->value.substr(colon + 1);
    if (low != high)
      throw ConfigError(shown("PET_NNODES", pet->value) + " is elastic: a fixed number of nodes is needed");
    const EnvLookup one = [&low](std::string_view) { return low; };
    node.node_count = EnvReader(one).integer({"PET_NNODES"}, 1, kMostRanks)->value;
    node.sources["node_count"] = "PET_NNODES";
    return;
  }
  const auto count = reader.integer({"PET_NNODES", "SLURM_STEP_NUM_NODES", "SLURM_NNODES"}, 1, kMostRanks);
  if (!count) return;
  node.node_count = count->value;
  node.sources["node_count"] = count->name;
}

void read_node_rank(const EnvReader& reader, NodeEnv& node) {
  const bool pod = reader.has("PET_NPROC_PER_NODE") && !reader.has("LOCAL_RANK");
  if (pod) reader.must_agree("RANK", "PET_NODE_RANK");
  const auto rank = pod ? reader.integer({"PET_NODE_RANK", "RANK"}, 0, kMostRanks)
                        : reader.integer({"PET_NODE_RANK", "SLURM_NODEID"}, 0, kMostRanks);
  if (!rank) return;
  node.node_rank = rank->value;
  node.sources["node_rank"] = rank->name;
}

void read_nproc(const EnvReader& reader, NodeEnv& node) {
  const auto nproc = reader.text({"PET_NPROC_PER_NODE"});
  if (!nproc) return;
  const std::string& text = nproc->value;
  if (text != "auto" && text != "cpu" && text != "gpu")
    (void)reader.integer({"PET_NPROC_PER_NODE"}, 1, kMostRanks);
  node.nproc_per_node = text;
  node.sources["nproc_per_node"] = nproc->name;
}

void read_master(const EnvReader& reader, NodeEnv& node) {
  if (auto address = reader.address({"PET_MASTER_ADDR", "MASTER_ADDR"})) {
    node.master_addr = std::move(address->value);
    node.sources["master_addr"] = address->name;
  } else if (const auto list = reader.raw("SLURM_STEP_NODELIST"); list && !list->empty()) {
    node.master_addr = expand_hostlist("SLURM_STEP_NODELIST", *list).front();
    node.sources["master_addr"] = "first of SLURM_STEP_NODELIST";
  }
  if (const auto port = reader.port({"PET_MASTER_PORT", "MASTER_PORT"})) {
    node.master_port = static_cast<std::uint16_t>(port->value);
    node.sources["master_port"] = port->name;
  }
}

}  // namespace

NodeEnv NodeEnv::from(const EnvLookup& lookup) {
  const EnvReader reader(lookup);
  NodeEnv node;
  node.standalone = reader.flag("PET_STANDALONE", true).value_or(false);
  if (reader.has("PET_STANDALONE")) node.sources["standalone"] = "PET_STANDALONE";
  read_nproc(reader, node);
  if (auto id = reader.text({"DDP_RUN_ID", "PET_RDZV_ID"})) {
    node.run_id = std::move(id->value);
    node.sources["run_id"] = id->name;
  }
  if (node.standalone) return node;
  read_node_count(reader, node);
  read_node_rank(reader, node);
  read_master(reader, node);
  if (node.node_rank >= node.node_count)
    throw ConfigError(
        node.sources["node_rank"] + "=" + std::to_string(node.node_rank) + " is not below " +
        (node.sources.count("node_count") ? node.sources["node_count"] : "the number of nodes") + "=" +
        std::to_string(node.node_count) +
        (node.sources.count("node_count") ? "" : " (PET_NNODES is not set)"));
  return node;
}

}  // namespace ddp
