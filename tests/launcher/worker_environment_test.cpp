#include "launcher/worker_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ddp::launcher {
namespace {

using ::testing::Contains;
using ::testing::Not;
using ::testing::Pair;

Options two_nodes() {
  Options options;
  options.nproc_per_node = 3;
  options.nnodes = 2;
  options.node_rank = 1;
  options.master_addr = "node-0";
  options.max_restarts = 5;
  return options;
}

const Attempt kAttempt{.number = 2,
                       .master_port = 4321,
                       .store_addr = "node-0",
                       .store_port = 29500,
                       .token_file = "/proc/self/fd/9"};

TEST(WorkerEnvironment, KeepsTorchrunsContract) {
  const auto values = worker_environment({}, two_nodes(), kAttempt, 1).values();
  const std::map<std::string, std::string> contract = {{"RANK", "4"},
                                                       {"LOCAL_RANK", "1"},
                                                       {"WORLD_SIZE", "6"},
                                                       {"LOCAL_WORLD_SIZE", "3"},
                                                       {"GROUP_RANK", "1"},
                                                       {"GROUP_WORLD_SIZE", "2"},
                                                       {"ROLE_RANK", "4"},
                                                       {"ROLE_WORLD_SIZE", "6"},
                                                       {"ROLE_NAME", "default"},
                                                       {"MASTER_ADDR", "node-0"},
                                                       {"MASTER_PORT", "4321"},
                                                       {"TORCHELASTIC_RESTART_COUNT", "2"},
                                                       {"TORCHELASTIC_MAX_RESTARTS", "5"},
                                                       {"TORCHELASTIC_RUN_ID", "none"},
                                                       {"TORCHELASTIC_USE_AGENT_STORE", "False"},
                                                       {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"},
                                                       {"OMP_NUM_THREADS", "1"}};
  for (const auto& [name, value] : contract) EXPECT_THAT(values, Contains(Pair(name, value)));
}

TEST(WorkerEnvironment, TellsLibddpWhereDdprunsStoreIs) {
  const Environment worker = worker_environment({}, two_nodes(), kAttempt, 0);
  EXPECT_EQ(worker.get("DDP_LAUNCHER"), "ddprun");
  EXPECT_EQ(worker.get("DDP_AGENT_STORE"), "1");
  EXPECT_EQ(worker.get("DDP_STORE_ADDR"), "node-0");
  EXPECT_EQ(worker.get("DDP_STORE_PORT"), "29500");
  EXPECT_EQ(worker.get("DDP_RESTART_COUNT"), "2");
  EXPECT_EQ(worker.get("DDP_MAX_RESTARTS"), "5");
  EXPECT_EQ(worker.get("DDP_JOB_TOKEN_FILE"), "/proc/self/fd/9");
}

TEST(WorkerEnvironment, ReplacesWhatAnOuterLauncherSetAndKeepsTheRest) {
  const Environment outer({{"RANK", "17"},
                           {"MASTER_PORT", "1"},
                           {"TORCHELASTIC_ERROR_FILE", "/outer/error.json"},
                           {"OMP_NUM_THREADS", "8"},
                           {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "3"},
                           {"HOME", "/home/me"}});
  const Environment worker = worker_environment(outer, two_nodes(), kAttempt, 0);
  EXPECT_EQ(worker.get("RANK"), "3");
  EXPECT_EQ(worker.get("MASTER_PORT"), "4321");
  EXPECT_EQ(worker.get("TORCHELASTIC_ERROR_FILE"), std::nullopt);
  EXPECT_EQ(worker.get("OMP_NUM_THREADS"), "8");
  EXPECT_EQ(worker.get("TORCH_NCCL_ASYNC_ERROR_HANDLING"), "3");
  EXPECT_EQ(worker.get("HOME"), "/home/me");
}

TEST(WorkerEnvironment, PutsTorchsErrorFileWithTheLogs) {
  Options options = two_nodes();
  options.log_dir = "logs";
  EXPECT_EQ(worker_environment({}, options, kAttempt, 2).get("TORCHELASTIC_ERROR_FILE"),
            "logs/attempt_2/rank_5/error.json");
}

TEST(WorkerEnvironment, LeavesThreadsToASingleWorker) {
  EXPECT_EQ(worker_environment({}, Options{}, kAttempt, 0).get("OMP_NUM_THREADS"), std::nullopt);
}

TEST(WorkerEnvironment, NeverHoldsTheToken) {
  Environment given;
  given.set("DDP_JOB_TOKEN", "the secret");
  EXPECT_THAT(worker_environment(given, two_nodes(), kAttempt, 0).values(),
              Not(Contains(Pair("DDP_JOB_TOKEN", "the secret"))));
  Environment file;
  file.set("DDP_JOB_TOKEN_FILE", "/etc/secret");
  EXPECT_EQ(worker_environment(file, two_nodes(), Attempt{}, 0).get("DDP_JOB_TOKEN_FILE"), std::nullopt);
}

TEST(WorkerEnvironment, NamesTheRunAndTheRole) {
  Options options;
  options.run_id = "night";
  options.role = "trainer";
  const Environment worker = worker_environment({}, options, kAttempt, 0);
  EXPECT_EQ(worker.get("TORCHELASTIC_RUN_ID"), "night");
  EXPECT_EQ(worker.get("DDP_RUN_ID"), "night");
  EXPECT_EQ(worker.get("ROLE_NAME"), "trainer");
}

}  // namespace
}  // namespace ddp::launcher
