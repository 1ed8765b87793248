#include "libddp/rendezvous/node_env.h"

#include <gmock/gmock.h>

#include <ddp/error.h>

#include "libddp/rendezvous/hostlist.h"
#include "tests/rendezvous/env_rows.h"

namespace ddp {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string summary(const NodeEnv& node) {
  return std::to_string(node.node_rank) + "/" + std::to_string(node.node_count) + " x" + node.nproc_per_node +
         " " + node.master_addr + ":" + std::to_string(node.master_port) +
         (node.standalone ? " standalone" : "") + (node.run_id.empty() ? "" : " id " + node.run_id);
}

const Vars kPod = {
    {"RANK", "1"},          {"WORLD_SIZE", "8"}, {"MASTER_ADDR", "m"},       {"MASTER_PORT", "23456"},
    {"PET_NODE_RANK", "1"}, {"PET_NNODES", "2"}, {"PET_NPROC_PER_NODE", "4"}};

const GoodRow kGood[] = {
    {"nothing", {}, "0/1 x :0"},
    {"PyTorchJob", kPod, "1/2 x4 m:23456"},
    {"PyTorchJob without PET_NODE_RANK", with(kPod, {{"PET_NODE_RANK", kUnset}}), "1/2 x4 m:23456"},
    {"RANK alone is not a node", {{"RANK", "1"}, {"WORLD_SIZE", "2"}}, "0/1 x :0"},
    {"TrainJob",
     {{"PET_NNODES", "4"},
      {"PET_NPROC_PER_NODE", "auto"},
      {"PET_NODE_RANK", "3"},
      {"PET_MASTER_ADDR", "t.t"},
      {"PET_MASTER_PORT", "29500"}},
     "3/4 xauto t.t:29500"},
    {"fixed range", with(kPod, {{"PET_NNODES", "2:2"}}), "1/2 x4 m:23456"},
    {"standalone", with(kPod, {{"PET_STANDALONE", ""}}), "0/1 x4 :0 standalone"},
    {"not standalone", with(kPod, {{"PET_STANDALONE", "0"}, {"PET_RDZV_ID", "q"}}), "1/2 x4 m:23456 id q"},
    {"Slurm",
     {{"SLURM_NODEID", "1"}, {"SLURM_STEP_NUM_NODES", "2"}, {"SLURM_STEP_NODELIST", "n[7-8]"}},
     "1/2 x n7:0"},
};
class GoodNode : public ::testing::TestWithParam<GoodRow> {};
TEST_P(GoodNode, IsUnderstood) {
  EXPECT_EQ(summary(NodeEnv::from(lookup_in(GetParam().vars))), GetParam().expected);
}
INSTANTIATE_TEST_SUITE_P(Row, GoodNode, ::testing::ValuesIn(kGood), row_name<GoodRow>);

const BadRow kBad[] = {
    {"rank beyond count",
     with(kPod, {{"RANK", "2"}, {"PET_NODE_RANK", "2"}}),
     {"PET_NODE_RANK=2", "PET_NNODES=2"}},
    {"rank without count", {{"PET_NODE_RANK", "1"}}, {"PET_NODE_RANK=1", "PET_NNODES is not set"}},
    {"elastic", with(kPod, {{"PET_NNODES", "1:2"}}), {"PET_NNODES='1:2'", "elastic"}},
    {"broken range", with(kPod, {{"PET_NNODES", "x:x"}}), {"PET_NNODES='x'"}},
    {"contradiction", with(kPod, {{"RANK", "0"}}), {"RANK='0' contradicts PET_NODE_RANK='1'"}},
    {"nproc zero", with(kPod, {{"PET_NPROC_PER_NODE", "0"}}), {"PET_NPROC_PER_NODE='0'"}},
    {"port", with(kPod, {{"PET_MASTER_PORT", "70000"}}), {"PET_MASTER_PORT='70000'"}},
};
class BadNode : public ::testing::TestWithParam<BadRow> {};
TEST_P(BadNode, IsAConfigErrorThatNamesTheVariables) {
  try {
    FAIL() << "understood as " << summary(NodeEnv::from(lookup_in(GetParam().vars)));
  } catch (const ConfigError& e) {
    for (const auto& piece : GetParam().complaints) EXPECT_THAT(e.what(), HasSubstr(piece));
  }
}
INSTANTIATE_TEST_SUITE_P(Row, BadNode, ::testing::ValuesIn(kBad), row_name<BadRow>);

TEST(Hostlist, ExpandsRangesZerosAndSeveralBrackets) {
  EXPECT_THAT(expand_hostlist("L", "a"), ElementsAre("a"));
  EXPECT_THAT(expand_hostlist("L", "gpu[003-005,9],cpu1"),
              ElementsAre("gpu003", "gpu004", "gpu005", "gpu9", "cpu1"));
  EXPECT_THAT(expand_hostlist("L", "r[1-2]n[08-09].x"),
              ElementsAre("r1n08.x", "r1n09.x", "r2n08.x", "r2n09.x"));
  EXPECT_THAT(expand_tasks_per_node("L", "2(x3),1"), ElementsAre(2, 2, 2, 1));
}

TEST(Hostlist, RefusesWhatItCannotReadOrCouldNotHold) {
  for (const char* list : {"a[1-2", "a]1", "a[[1]]", "a[]", "a[2-1]", "a[x]", "a[1-]", "a,,b", "", ",",
                           "a[1-99999999]", "a[1-60000]b[1-60000]", "a[9999999999]"})
    EXPECT_THROW((void)expand_hostlist("L", list), ConfigError) << list;
  for (const char* list : {"", "x", "2(x)", "2(x0)", "0", "-1", "2,", "2(x99999999)", "1(x65536),1"})
    EXPECT_THROW((void)expand_tasks_per_node("L", list), ConfigError) << list;
}

}  // namespace
}  // namespace ddp
