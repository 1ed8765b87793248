// What the command line and the environment together mean.
#include "launcher/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ddp/error.h>

namespace ddp::launcher {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

using Variables = std::map<std::string, std::string, std::less<>>;

Options parse(std::vector<std::string> words, const Variables& variables = {}, int cpus = 6) {
  words.insert(words.begin(), "ddprun");
  return parse_options(words, Environment(variables), [cpus] { return cpus; });
}

TEST(LauncherOptions, HaveDefaultsForOneWorkerOnOneNode) {
  const Options options = parse({"train"});
  EXPECT_EQ(options.nproc_per_node, 1);
  EXPECT_EQ(options.nnodes, 1);
  EXPECT_EQ(options.node_rank, 0);
  EXPECT_EQ(options.master_port, 0);
  EXPECT_EQ(options.max_restarts, 0);
  EXPECT_EQ(options.grace_period, seconds(30));
  EXPECT_EQ(options.join_timeout, seconds(600));
  EXPECT_EQ(options.heartbeat_timeout, seconds(30));
  EXPECT_EQ(options.role, "default");
  EXPECT_FALSE(options.no_prefix);
  EXPECT_FALSE(options.dry_run);
  EXPECT_THAT(options.program, ElementsAre("train"));
}

TEST(LauncherOptions, TakeEveryOptionFromTheCommandLine) {
  const Options options = parse({"--nproc-per-node=3",
                                 "--nnodes",
                                 "2",
                                 "--node-rank",
                                 "1",
                                 "--master-addr=[fd00::1]",
                                 "--master-port=1234",
                                 "--role=eval",
                                 "--max-restarts",
                                 "4",
                                 "--run-id",
                                 "night",
                                 "--log-dir",
                                 "logs",
                                 "--grace-period=0.25",
                                 "--join-timeout=7",
                                 "--no-prefix",
                                 "--dry-run",
                                 "--heartbeat-timeout=2.5",
                                 "--no-python",
                                 "train"});
  EXPECT_EQ(options.world_size(), 6);
  EXPECT_EQ(options.first_rank(), 3);
  EXPECT_EQ(options.master_addr, "fd00::1");
  EXPECT_EQ(options.master_port, 1234);
  EXPECT_EQ(options.role, "eval");
  EXPECT_EQ(options.max_restarts, 4);
  EXPECT_EQ(options.run_id, "night");
  EXPECT_EQ(options.log_dir, "logs");
  EXPECT_EQ(options.grace_period, milliseconds(250));
  EXPECT_EQ(options.join_timeout, seconds(7));
  EXPECT_EQ(options.heartbeat_timeout, milliseconds(2500));
  EXPECT_TRUE(options.no_prefix);
  EXPECT_TRUE(options.dry_run);
}

TEST(LauncherOptions, TakeEveryOptionFromPetVariables) {
  const Options options = parse({"train"}, {{"PET_NPROC_PER_NODE", "3"},
                                            {"PET_NNODES", "2:2"},
                                            {"PET_NODE_RANK", "1"},
                                            {"PET_MASTER_ADDR", "job-master-0"},
                                            {"PET_MASTER_PORT", "23456"},
                                            {"PET_ROLE", "eval"},
                                            {"PET_MAX_RESTARTS", "4"},
                                            {"PET_RDZV_ID", "night"},
                                            {"PET_LOG_DIR", "logs"},
                                            {"PET_GRACE_PERIOD", "5"},
                                            {"PET_JOIN_TIMEOUT", "7"},
                                            {"PET_HEARTBEAT_TIMEOUT", "9"},
                                            {"PET_NO_PREFIX", "True"},
                                            {"PET_DRY_RUN", "1"}});
  EXPECT_EQ(options.nproc_per_node, 3);
  EXPECT_EQ(options.nnodes, 2);
  EXPECT_EQ(options.node_rank, 1);
  EXPECT_EQ(options.master_addr, "job-master-0");
  EXPECT_EQ(options.master_port, 23456);
  EXPECT_EQ(options.role, "eval");
  EXPECT_EQ(options.max_restarts, 4);
  EXPECT_EQ(options.run_id, "night");
  EXPECT_EQ(options.log_dir, "logs");
  EXPECT_EQ(options.grace_period, seconds(5));
  EXPECT_EQ(options.join_timeout, seconds(7));
  EXPECT_EQ(options.heartbeat_timeout, seconds(9));
  EXPECT_TRUE(options.no_prefix);
  EXPECT_TRUE(options.dry_run);
}

TEST(LauncherOptions, PreferTheCommandLineToVariables) {
  const Options options =
      parse({"--nproc-per-node", "2", "--nnodes=3", "--node-rank=2", "--master-addr=a", "train"},
            {{"PET_NPROC_PER_NODE", "5"},
             {"PET_NNODES", "9"},
             {"PET_NODE_RANK", "8"},
             {"RANK", "7"},
             {"PET_MASTER_ADDR", "b"},
             {"MASTER_ADDR", "c"},
             {"MASTER_PORT", "77"}});
  EXPECT_EQ(options.nproc_per_node, 2);
  EXPECT_EQ(options.nnodes, 3);
  EXPECT_EQ(options.node_rank, 2);
  EXPECT_EQ(options.master_addr, "a");
  EXPECT_EQ(options.master_port, 77);
}

TEST(LauncherOptions, TakeAnEmptyVariableForAnUnsetOne) {
  EXPECT_EQ(parse({"train"}, {{"PET_NPROC_PER_NODE", ""}, {"PET_NNODES", ""}}).world_size(), 1);
}

TEST(LauncherOptions, CountCpusForAutoOnly) {
  EXPECT_EQ(parse({"--nproc-per-node=auto", "train"}).nproc_per_node, 6);
  EXPECT_EQ(parse({"train"}, {{"PET_NPROC_PER_NODE", "auto"}}).nproc_per_node, 6);
  EXPECT_EQ(parse({"--nproc-per-node=cpu", "train"}, {}, 0).nproc_per_node, 1);
  EXPECT_THAT(
      [] {
        (void)parse({"--nproc-per-node=gpu", "train"});
      },
      ThrowsMessage<ConfigError>(HasSubstr("--nproc-per-node='gpu'")));
}

TEST(LauncherOptions, UnderstandAPyTorchJobPod) {
  const Options options = parse({"train"}, {{"PET_NPROC_PER_NODE", "2"},
                                            {"PET_NNODES", "3"},
                                            {"RANK", "2"},
                                            {"WORLD_SIZE", "6"},
                                            {"MASTER_ADDR", "job-master-0"},
                                            {"MASTER_PORT", "23456"}});
  EXPECT_EQ(options.first_rank(), 4);
  EXPECT_EQ(options.master_addr, "job-master-0");
  EXPECT_EQ(options.master_port, 23456);
}

TEST(LauncherOptions, UnderstandASlurmStep) {
  const Variables step = {{"SLURM_STEP_NUM_NODES", "4"},
                          {"SLURM_NODEID", "3"},
                          {"SLURM_STEP_NODELIST", "rack[1-2]gpu[007-009]"},
                          {"SLURM_JOB_ID", "4711"}};
  const Options options = parse({"--nproc-per-node=2", "train"}, step);
  EXPECT_EQ(options.nnodes, 4);
  EXPECT_EQ(options.node_rank, 3);
  EXPECT_EQ(options.master_addr, "rack1gpu007");
  EXPECT_EQ(options.master_port, 29500);
  EXPECT_EQ(options.run_id, "4711");
  // A job of one node on each of the nodes of a step.
  EXPECT_EQ(parse({"--nnodes=1", "train"}, step).node_rank, 0);
}

TEST(LauncherOptions, DoNotTakeAWorkersRankForANodes) {
  // ddprun below another launcher's worker, or in a shell that has RANK set.
  EXPECT_EQ(parse({"train"}, {{"RANK", "3"}, {"WORLD_SIZE", "4"}}).node_rank, 0);
  EXPECT_EQ(parse({"train"}, {{"PET_NPROC_PER_NODE", "2"}, {"RANK", "3"}, {"LOCAL_RANK", "1"}}).node_rank, 0);
}

TEST(LauncherOptions, IgnoreEveryPlaceFoundElsewhereWhenStandalone) {
  const Variables pod = {{"PET_NPROC_PER_NODE", "2"},  {"PET_NNODES", "3"},
                         {"PET_NODE_RANK", "2"},       {"RANK", "1"},
                         {"MASTER_ADDR", "elsewhere"}, {"MASTER_PORT", "1"}};
  const Options options = parse({"--standalone", "--nnodes=1", "train"}, pod);
  EXPECT_EQ(options.nnodes, 1);
  EXPECT_EQ(options.node_rank, 0);
  EXPECT_EQ(options.master_addr, "127.0.0.1");
  EXPECT_EQ(options.master_port, 0);
  EXPECT_EQ(options.nproc_per_node, 2);
  Variables empty_means_yes = pod;
  empty_means_yes["PET_STANDALONE"] = "";
  EXPECT_EQ(parse({"train"}, empty_means_yes).nnodes, 1);
}

TEST(LauncherOptions, GiveAPortOnOneNodeToTheWorkers) {
  EXPECT_EQ(parse({"--master-port=4000", "train"}).master_port, 4000);
  // That of an outer job is not meant.
  EXPECT_EQ(parse({"train"}, {{"MASTER_PORT", "4000"}}).master_port, 0);
}

TEST(LauncherOptions, PreferARunIdToOtherNames) {
  EXPECT_EQ(parse({"--rdzv_id=a", "train"}, {{"PET_RUN_ID", "b"}}).run_id, "a");
  EXPECT_EQ(parse({"train"}, {{"PET_RUN_ID", "b"}, {"PET_RDZV_ID", "c"}, {"SLURM_JOB_ID", "d"}}).run_id, "b");
  EXPECT_EQ(parse({"train"}).run_id, "");
}

TEST(LauncherOptions, AskForHelpWithoutAProgram) {
  EXPECT_TRUE(parse({"--help"}).help);
  EXPECT_TRUE(parse({"-h"}).help);
  EXPECT_TRUE(parse({"--nnodes=7", "--help"}, {{"PET_NPROC_PER_NODE", "nonsense"}}).help);
  EXPECT_TRUE(parse({"--version"}).version);
  EXPECT_FALSE(parse({"train", "--help"}).help);
}

struct Refused {
  const char* name;
  std::vector<std::string> words;
  Variables variables;
  std::vector<const char*> says;
};

class LauncherOptionsRefuse : public ::testing::TestWithParam<Refused> {};

TEST_P(LauncherOptionsRefuse, AndNameTheSourceAndTheValue) {
  try {
    (void)parse(GetParam().words, GetParam().variables);
    FAIL() << "was accepted";
  } catch (const ConfigError& error) {
    for (const char* part : GetParam().says) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

const Variables kPod = {{"PET_NPROC_PER_NODE", "1"}, {"PET_NNODES", "2"}, {"MASTER_ADDR", "a"}};

Variables with(Variables variables, const char* name, const char* value) {
  variables[name] = value;
  return variables;
}

INSTANTIATE_TEST_SUITE_P(
    Table, LauncherOptionsRefuse,
    ::testing::Values(
        Refused{"NoProgram", {}, {}, {"no program", "--help"}},
        Refused{"EmptyProgram", {""}, {}, {"name is empty"}},
        Refused{"Words", {"--nproc-per-node", "two", "t"}, {}, {"--nproc-per-node='two'", "whole number"}},
        Refused{"Zero", {"--nproc-per-node=0", "t"}, {}, {"--nproc-per-node='0'"}},
        Refused{"Negative", {"--nproc-per-node=-1", "t"}, {}, {"='-1'"}},
        Refused{"TooMany", {"--nproc-per-node=5000", "t"}, {}, {"='5000'", "4096"}},
        Refused{"Overlong", {"--nnodes=99999999999999999999", "t"}, {}, {"--nnodes='9999"}},
        Refused{"Fraction", {"--max-restarts=1.5", "t"}, {}, {"--max-restarts='1.5'"}},
        Refused{"Blank", {"--max-restarts= 1", "t"}, {}, {"--max-restarts=' 1'"}},
        Refused{"Variable", {"t"}, {{"PET_MAX_RESTARTS", "x"}}, {"PET_MAX_RESTARTS='x'"}},
        Refused{"PetWorkers", {"t"}, {{"PET_NPROC_PER_NODE", "2x"}}, {"PET_NPROC_PER_NODE='2x'"}},
        Refused{"Elastic", {"--nnodes=1:4", "t"}, {}, {"--nnodes='1:4'", "fixed"}},
        Refused{"HalfElastic", {"t"}, {{"PET_NNODES", "1:"}}, {"PET_NNODES=''"}},
        Refused{"NotANumberOfSeconds", {"--grace-period=nan", "t"}, {}, {"--grace-period='nan'"}},
        Refused{"NegativeSeconds", {"--join-timeout=-1", "t"}, {}, {"--join-timeout='-1'"}},
        Refused{"EndlessSeconds", {"--join-timeout=inf", "t"}, {}, {"--join-timeout='inf'"}},
        Refused{"HastyHeart", {"--heartbeat-timeout=0.5", "t"}, {}, {"--heartbeat-timeout='0.5'", "from 1"}},
        Refused{"Port", {"--master-port=65536", "t"}, {}, {"--master-port='65536'"}},
        Refused{"PortZero",
                {"--nnodes=2", "--node-rank=0", "--master-addr=a", "--master-port=0", "t"},
                {},
                {"--master-port='0'"}},
        Refused{"PortVariable",
                {"t"},
                with(with(kPod, "RANK", "0"), "MASTER_PORT", "http"),
                {"MASTER_PORT='http'"}},
        Refused{"Yes", {"t"}, {{"PET_STANDALONE", "maybe"}}, {"PET_STANDALONE='maybe'"}},
        Refused{"NoRank", {"--nnodes=2", "--master-addr=a", "t"}, {}, {"--nnodes=2", "--node-rank"}},
        Refused{"RankTooHigh",
                {"--nnodes=2", "--node-rank=2", "--master-addr=a", "t"},
                {},
                {"--node-rank='2'", "--nnodes=2"}},
        Refused{"NoMaster", {"--nnodes=2", "--node-rank=1", "t"}, {}, {"--master-addr", "MASTER_ADDR"}},
        Refused{"MasterWithPort",
                {"--nnodes=2", "--node-rank=1", "--master-addr=a:29500", "t"},
                {},
                {"--master-addr='a:29500'", "port"}},
        Refused{"MasterIsAUrl",
                {"t"},
                with(with(kPod, "RANK", "0"), "MASTER_ADDR", "tcp://a"),
                {"MASTER_ADDR='tcp"}},
        Refused{"RankOfOneNode", {"--node-rank=1", "t"}, {}, {"--node-rank='1'", "one node"}},
        Refused{"PodRankOfOneNode",
                {"t"},
                {{"PET_NPROC_PER_NODE", "2"}, {"PET_NODE_RANK", "1"}},
                {"PET_NODE_RANK='1'", "one node"}},
        Refused{"TwoRanks",
                {"t"},
                with(with(kPod, "RANK", "0"), "PET_NODE_RANK", "1"),
                {"PET_NODE_RANK='1'", "RANK='0'", "contradicts"}},
        Refused{"StandaloneNodes", {"--standalone", "--nnodes=2", "t"}, {}, {"--standalone", "--nnodes='2'"}},
        Refused{"StandaloneRank",
                {"--standalone", "--node-rank=1", "t"},
                {},
                {"--standalone", "--node-rank='1'"}},
        Refused{"SlurmList",
                {"t"},
                {{"SLURM_STEP_NUM_NODES", "2"}, {"SLURM_NODEID", "0"}, {"SLURM_STEP_NODELIST", "gpu[1-2"}},
                {"SLURM_STEP_NODELIST", "gpu[1-2"}}),
    [](const auto& info) { return info.param.name; });

TEST(LauncherOptions, StandInTheHelpWithTheirVariablesAndGuarantees) {
  const std::string help = help_text();
  for (const char* option :
       {"--nproc-per-node", "--nnodes", "--node-rank", "--master-addr", "--master-port", "--standalone",
        "--max-restarts", "--run-id", "--rdzv-id", "--role", "--log-dir", "--grace-period", "--join-timeout",
        "--heartbeat-timeout", "--no-prefix", "--no-python", "--dry-run", "--help", "--version"})
    EXPECT_THAT(help, HasSubstr(option));
  EXPECT_THAT(help, AllOf(HasSubstr("PET_"), HasSubstr("128 + signal"), HasSubstr("SIGKILL")));
}

}  // namespace
}  // namespace ddp::launcher
