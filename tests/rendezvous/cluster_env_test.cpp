#include <ddp/cluster_env.h>

#include <gmock/gmock.h>
#include <unistd.h>

#include <ddp/error.h>

#include "tests/rendezvous/env_rows.h"

namespace ddp {
namespace {

using namespace testing;
using ::testing::HasSubstr;

const Vars kPlain = {{"RANK", "5"},
                     {"WORLD_SIZE", "8"},
                     {"LOCAL_RANK", "1"},
                     {"LOCAL_WORLD_SIZE", "4"},
                     {"MASTER_ADDR", "node-0"},
                     {"MASTER_PORT", "29500"}};
const Vars kTorchrun = with(kPlain, {{"GROUP_RANK", "1"},
                                     {"GROUP_WORLD_SIZE", "2"},
                                     {"TORCHELASTIC_RUN_ID", "job-7"},
                                     {"TORCHELASTIC_RESTART_COUNT", "2"},
                                     {"TORCHELASTIC_MAX_RESTARTS", "3"},
                                     {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
const Vars kDdprun = with(kTorchrun, {{"DDP_LAUNCHER", "ddprun"},
                                      {"DDP_RUN_ID", "job-8"},
                                      {"DDP_RESTART_COUNT", "2"},
                                      {"DDP_AGENT_STORE", "1"},
                                      {"TORCHELASTIC_USE_AGENT_STORE", "False"}});
const Vars kPyTorchJob = {{"RANK", "1"},
                          {"WORLD_SIZE", "3"},
                          {"MASTER_ADDR", "job-master-0"},
                          {"MASTER_PORT", "23456"},
                          {"PET_MASTER_ADDR", "job-master-0"},
                          {"PET_MASTER_PORT", "23456"},
                          {"PET_NODE_RANK", "1"},
                          {"PET_NNODES", "3"},
                          {"PET_NPROC_PER_NODE", "auto"},
                          {"PYTHONUNBUFFERED", "1"}};
const Vars kTrainJob = {{"PET_NNODES", "4"},
                        {"PET_NPROC_PER_NODE", "1"},
                        {"PET_NODE_RANK", "2"},
                        {"PET_MASTER_ADDR", "t-node-0-0.t"},
                        {"PET_MASTER_PORT", "29500"}};
const Vars kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},       {"OMPI_COMM_WORLD_SIZE", "2"},
                       {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                       {"OMPI_COMM_WORLD_NODE_RANK", "1"},  {"PMIX_NAMESPACE", "1902379009"}};
const Vars kPmi = {{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "3"}, {"MPI_LOCALNRANKS", "4"}};
const Vars kSlurm = {{"SLURM_PROCID", "4"},
                     {"SLURM_NTASKS", "5"},
                     {"SLURM_LOCALID", "1"},
                     {"SLURM_NODEID", "2"},
                     {"SLURM_STEP_NODELIST", "gpu[03-05]"},
                     {"SLURM_STEP_TASKS_PER_NODE", "1,2(x2)"},
                     {"SLURM_JOB_ID", "4711"},
                     {"SLURM_STEP_ID", "0"}};
const Vars kSlurmOneHost = with(kSlurm, {{"SLURM_PROCID", "1"},
                                         {"SLURM_NTASKS", "2"},
                                         {"SLURM_NODEID", "0"},
                                         {"SLURM_STEP_NODELIST", "gpu03"},
                                         {"SLURM_STEP_TASKS_PER_NODE", "2"}});

std::string summary(const ClusterEnv& env) {
  const auto pair = [](int a, int b) { return " " + std::to_string(a) + "/" + std::to_string(b); };
  std::string text = to_string(env.launcher) + pair(env.rank, env.world_size) +
                     pair(env.local_rank, env.local_world_size) + pair(env.node_rank, env.node_count) + " " +
                     env.master_addr + ":" + std::to_string(env.master_port);
  if (env.restart_count != 0) text += " attempt " + std::to_string(env.restart_count);
  if (!env.run_id.empty()) text += " id " + env.run_id;
  if (env.launcher_hosts_store) text += " hosted";
  return text;
}

const GoodRow kGood[] = {
    {"nothing set", {}, "single 0/1 0/1 0/1 127.0.0.1:0"},
    {"unrelated variables", {{"HOME", "/root"}, {"MASTER_ADDR", "x"}}, "single 0/1 0/1 0/1 127.0.0.1:0"},
    {"plain", kPlain, "plain 5/8 1/4 1/2 node-0:29500"},
    {"plain with nodes", with(kPlain, {{"GROUP_RANK", "2"}, {"GROUP_WORLD_SIZE", "3"}, {"RANK", "7"}}),
     "plain 7/8 1/4 2/3 node-0:29500"},
    {"plain without local on loopback",
     {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "1"}},
     "plain 1/2 1/2 0/1 127.0.0.1:1"},
    {"plain without local on a host is one process a node",
     {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "h"}, {"MASTER_PORT", "65535"}},
     "plain 1/2 0/1 1/2 h:65535"},
    {"plain with LOCAL_RANK alone on loopback",
     {{"RANK", "1"},
      {"WORLD_SIZE", "2"},
      {"LOCAL_RANK", "1"},
      {"MASTER_ADDR", "localhost"},
      {"MASTER_PORT", "9"}},
     "plain 1/2 1/2 0/1 localhost:9"},
    {"plain one node", with(kPlain, {{"LOCAL_WORLD_SIZE", "8"}, {"LOCAL_RANK", "5"}}),
     "plain 5/8 5/8 0/1 node-0:29500"},
    {"plain single needs no address", {{"RANK", "0"}, {"WORLD_SIZE", "1"}}, "plain 0/1 0/1 0/1 127.0.0.1:0"},
    {"IPv6 address", with(kPlain, {{"MASTER_ADDR", "fd00::1"}}), "plain 5/8 1/4 1/2 fd00::1:29500"},
    {"IPv6 address in brackets", with(kPlain, {{"MASTER_ADDR", "[fe80::1%eth0]"}}),
     "plain 5/8 1/4 1/2 fe80::1%eth0:29500"},
    {"plain with run id and attempt", with(kPlain, {{"DDP_RUN_ID", "night"}, {"DDP_RESTART_COUNT", "3"}}),
     "plain 5/8 1/4 1/2 node-0:29500 attempt 3 id night"},
    {"leading zeros", with(kPlain, {{"RANK", "005"}}), "plain 5/8 1/4 1/2 node-0:29500"},
    {"torchrun", kTorchrun, "torchrun 5/8 1/4 1/2 node-0:29500 attempt 2 id job-7 hosted"},
    {"torchrun without agent store", with(kTorchrun, {{"TORCHELASTIC_USE_AGENT_STORE", "False"}}),
     "torchrun 5/8 1/4 1/2 node-0:29500 attempt 2 id job-7"},
    {"torchrun with unequal nodes", with(kTorchrun, {{"LOCAL_WORLD_SIZE", "5"}}),
     "torchrun 5/8 1/5 1/2 node-0:29500 attempt 2 id job-7 hosted"},
    {"torchrun inside a pod", with(kTorchrun, {{"PET_NPROC_PER_NODE", "4"}, {"PET_NODE_RANK", "1"}}),
     "torchrun 5/8 1/4 1/2 node-0:29500 attempt 2 id job-7 hosted"},
    {"torchrun under srun",
     with(kTorchrun, {{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_ID", "0"}}),
     "torchrun 5/8 1/4 1/2 node-0:29500 attempt 2 id job-7 hosted"},
    {"ddprun wins over torchrun's names", kDdprun,
     "ddprun 5/8 1/4 1/2 node-0:29500 attempt 2 id job-8 hosted"},
    {"ddprun's own store beside the program's MASTER_PORT",
     with(kDdprun, {{"DDP_STORE_ADDR", "node-0"}, {"DDP_STORE_PORT", "4711"}}),
     "ddprun 5/8 1/4 1/2 node-0:4711 attempt 2 id job-8 hosted"},
    {"ddprun where rank 0 hosts", with(kDdprun, {{"DDP_AGENT_STORE", kUnset}}),
     "ddprun 5/8 1/4 1/2 node-0:29500 attempt 2 id job-8"},
    {"ddprun started by mpirun",
     with(kDdprun, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "2"}}),
     "ddprun 5/8 1/4 1/2 node-0:29500 attempt 2 id job-8 hosted"},
    {"PyTorchJob auto", kPyTorchJob, "pytorchjob 1/3 0/1 1/3 job-master-0:23456"},
    {"PyTorchJob with one process", with(kPyTorchJob, {{"PET_NPROC_PER_NODE", "1"}}),
     "pytorchjob 1/3 0/1 1/3 job-master-0:23456"},
    {"PyTorchJob gpu", with(kPyTorchJob, {{"PET_NPROC_PER_NODE", "gpu"}}),
     "pytorchjob 1/3 0/1 1/3 job-master-0:23456"},
    {"PyTorchJob elastic with a master", with(kPyTorchJob, {{"PET_NNODES", "1:3"}, {"PET_RDZV_ID", "e"}}),
     "pytorchjob 1/3 0/1 1/3 job-master-0:23456 id e"},
    {"PyTorchJob standalone with one pod",
     with(kPyTorchJob, {{"RANK", "0"},
                        {"PET_NODE_RANK", "0"},
                        {"WORLD_SIZE", "1"},
                        {"PET_NNODES", "1"},
                        {"PET_STANDALONE", ""}}),
     "pytorchjob 0/1 0/1 0/1 job-master-0:23456"},
    {"PyTorchJob not standalone", with(kPyTorchJob, {{"PET_STANDALONE", "false"}}),
     "pytorchjob 1/3 0/1 1/3 job-master-0:23456"},
    {"a plain launcher inside a pod", with(kPyTorchJob, {{"LOCAL_RANK", "0"}, {"LOCAL_WORLD_SIZE", "1"}}),
     "plain 1/3 0/1 1/3 job-master-0:23456"},
    {"TrainJob", kTrainJob, "trainjob 2/4 0/1 2/4 t-node-0-0.t:29500"},
    {"Open MPI on one host", kOpenMpi, "openmpi 1/2 1/2 0/1 unix:@ddp-7-mpi-1902379009:0 id 1902379009"},
    {"Open MPI 5 names its job in another variable",
     with(kOpenMpi, {{"PMIX_NAMESPACE", "prterun-host-12@1"}}),
     "openmpi 1/2 1/2 0/1 unix:@ddp-7-mpi-prterun-host-12_1:0 id prterun-host-12@1"},
    {"Open MPI without any identity", with(kOpenMpi, {{"PMIX_NAMESPACE", kUnset}}),
     "openmpi 1/2 1/2 0/1 unix:@ddp-7-parent-99:0"},
    {"Open MPI with an address", with(kOpenMpi, {{"MASTER_ADDR", "h"}}),
     "openmpi 1/2 1/2 0/1 h:29500 id 1902379009"},
    {"Open MPI with a port only", with(kOpenMpi, {{"MASTER_PORT", "7"}}),
     "openmpi 1/2 1/2 0/1 127.0.0.1:7 id 1902379009"},
    {"Open MPI on two hosts",
     with(kOpenMpi, {{"OMPI_COMM_WORLD_SIZE", "4"},
                     {"OMPI_COMM_WORLD_RANK", "3"},
                     {"MASTER_ADDR", "h"},
                     {"MASTER_PORT", "8"}}),
     "openmpi 3/4 1/2 1/2 h:8 id 1902379009"},
    {"Open MPI on unequal hosts",
     with(kOpenMpi, {{"OMPI_COMM_WORLD_SIZE", "3"},
                     {"OMPI_COMM_WORLD_RANK", "2"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                     {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"},
                     {"MASTER_ADDR", "h"}}),
     "openmpi 2/3 0/1 2/3 h:29500 id 1902379009"},
    {"Open MPI inside a pod, where RANK counts pods",
     with(kOpenMpi, {{"RANK", "0"}, {"PET_NPROC_PER_NODE", "auto"}}),
     "openmpi 1/2 1/2 0/1 unix:@ddp-7-mpi-1902379009:0 id 1902379009"},
    {"Open MPI with an agreeing RANK", with(kOpenMpi, {{"RANK", "1"}, {"WORLD_SIZE", "2"}}),
     "openmpi 1/2 1/2 0/1 unix:@ddp-7-mpi-1902379009:0 id 1902379009"},
    {"Open MPI under Slurm",
     with(kOpenMpi, {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"SLURM_STEP_ID", "0"}}),
     "openmpi 1/2 1/2 0/1 unix:@ddp-7-mpi-1902379009:0 id 1902379009"},
    {"mpirun -n 1",
     with(kOpenMpi, {{"OMPI_COMM_WORLD_RANK", "0"},
                     {"OMPI_COMM_WORLD_SIZE", "1"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                     {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}}),
     "openmpi 0/1 0/1 0/1 127.0.0.1:0 id 1902379009"},
    {"Hydra on one host", kPmi, "pmi 3/4 3/4 0/1 unix:@ddp-7-parent-99:0"},
    {"Hydra names its port", with(kPmi, {{"PMI_PORT", "vm:4242"}}),
     "pmi 3/4 3/4 0/1 unix:@ddp-7-mpi-vm_4242:0 id mpi-vm:4242"},
    {"PMI without local numbers",
     {{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}},
     "pmi 1/2 1/2 0/1 unix:@ddp-7-parent-99:0"},
    {"PMI over hosts", with(kPmi, {{"PMI_RANK", "7"}, {"PMI_SIZE", "8"}, {"MASTER_ADDR", "10.0.0.1"}}),
     "pmi 7/8 3/4 1/2 10.0.0.1:29500"},
    {"Hydra under Slurm", with(kPmi, {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"SLURM_STEP_ID", "3"}}),
     "pmi 3/4 3/4 0/1 unix:@ddp-7-parent-99:0"},
    {"Slurm on three nodes", kSlurm, "slurm 4/5 1/2 2/3 gpu03:19711 id slurm-4711.0"},
    {"Slurm on one node", kSlurmOneHost, "slurm 1/2 1/2 0/1 unix:@ddp-7-slurm-4711.0:0 id slurm-4711.0"},
    {"Slurm requeued", with(kSlurmOneHost, {{"SLURM_RESTART_COUNT", "2"}}),
     "slurm 1/2 1/2 0/1 unix:@ddp-7-slurm-4711.0:0 attempt 2 id slurm-4711.0"},
    {"Slurm with an address", with(kSlurm, {{"MASTER_ADDR", "a"}, {"MASTER_PORT", "5"}}),
     "slurm 4/5 1/2 2/3 a:5 id slurm-4711.0"},
    {"Slurm with nothing but the usual five",
     {{"SLURM_PROCID", "3"},
      {"SLURM_NTASKS", "4"},
      {"SLURM_LOCALID", "1"},
      {"SLURM_NODEID", "1"},
      {"SLURM_STEP_NODELIST", "a,b"}},
     "slurm 3/4 1/2 1/2 a:29500"},
    {"srun with PMI-2", with(kSlurm, {{"PMI_RANK", "4"}, {"PMI_SIZE", "5"}}),
     "slurm 4/5 1/2 2/3 gpu03:19711 id slurm-4711.0"},
    {"a step smaller than its job",
     with(kSlurmOneHost, {{"SLURM_NTASKS", "64"}, {"SLURM_STEP_NUM_TASKS", "2"}}),
     "slurm 1/2 1/2 0/1 unix:@ddp-7-slurm-4711.0:0 id slurm-4711.0"},
    {"plain inside srun",
     with(kPlain, {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_STEP_ID", "0"}}),
     "plain 5/8 1/4 1/2 node-0:29500"},
    {"a batch script of one task",
     {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}},
     "single 0/1 0/1 0/1 127.0.0.1:0"},
};

class GoodEnvironment : public ::testing::TestWithParam<GoodRow> {};

TEST_P(GoodEnvironment, IsUnderstood) {
  EXPECT_EQ(summary(ClusterEnv::from(lookup_in(GetParam().vars), {.uid = 7, .parent = 99})),
            GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(Row, GoodEnvironment, ::testing::ValuesIn(kGood), row_name<GoodRow>);

const BadRow kBad[] = {
    {"RANK missing", with(kPlain, {{"RANK", kUnset}}), {"RANK is not set"}},
    {"WORLD_SIZE missing", with(kPlain, {{"WORLD_SIZE", kUnset}}), {"WORLD_SIZE is not set"}},
    {"only LOCAL_RANK", {{"LOCAL_RANK", "0"}}, {"RANK is not set"}},
    {"MASTER_ADDR missing", with(kPlain, {{"MASTER_ADDR", kUnset}}), {"MASTER_ADDR is not set", "29500"}},
    {"MASTER_PORT missing", with(kPlain, {{"MASTER_PORT", kUnset}}), {"MASTER_PORT is not set", "node-0"}},
    {"LOCAL_RANK missing", with(kPlain, {{"LOCAL_RANK", kUnset}}), {"LOCAL_RANK is not set"}},
    {"LOCAL_WORLD_SIZE missing",
     with(kPlain, {{"LOCAL_WORLD_SIZE", kUnset}}),
     {"LOCAL_WORLD_SIZE is not set"}},
    {"RANK empty", with(kPlain, {{"RANK", ""}}), {"RANK is set but empty"}},
    {"WORLD_SIZE empty", with(kPlain, {{"WORLD_SIZE", ""}}), {"WORLD_SIZE is set but empty"}},
    {"MASTER_ADDR empty", with(kPlain, {{"MASTER_ADDR", ""}}), {"MASTER_ADDR is set but empty"}},
    {"MASTER_PORT empty", with(kPlain, {{"MASTER_PORT", ""}}), {"MASTER_PORT is set but empty"}},
    {"RANK negative", with(kPlain, {{"RANK", "-1"}}), {"RANK='-1' is negative"}},
    {"WORLD_SIZE zero", with(kPlain, {{"WORLD_SIZE", "0"}}), {"WORLD_SIZE='0' is not in 1.."}},
    {"WORLD_SIZE negative", with(kPlain, {{"WORLD_SIZE", "-8"}}), {"WORLD_SIZE='-8' is negative"}},
    {"RANK is a word", with(kPlain, {{"RANK", "five"}}), {"RANK='five' is not a decimal number"}},
    {"RANK hexadecimal", with(kPlain, {{"RANK", "0x5"}}), {"RANK='0x5' is not a decimal number"}},
    {"RANK a fraction", with(kPlain, {{"RANK", "5.0"}}), {"RANK='5.0' is not a decimal number"}},
    {"RANK with blanks", with(kPlain, {{"RANK", " 5"}}), {"RANK=' 5' is not a decimal number"}},
    {"RANK with a plus", with(kPlain, {{"RANK", "+5"}}), {"RANK='+5' is not a decimal number"}},
    {"RANK with trailing junk", with(kPlain, {{"RANK", "5\n"}}), {"RANK='5?' is not a decimal number"}},
    {"RANK beyond int",
     with(kPlain, {{"RANK", "99999999999999999999"}}),
     {"RANK='99999999999999999999' is not in"}},
    {"WORLD_SIZE too large", with(kPlain, {{"WORLD_SIZE", "2000000"}}), {"WORLD_SIZE='2000000' is not in"}},
    {"RANK overlong", with(kPlain, {{"RANK", std::string(10000, '7')}}), {"RANK='777", "(10000 characters)"}},
    {"RANK not below WORLD_SIZE", with(kPlain, {{"RANK", "8"}}), {"RANK=8", "WORLD_SIZE=8"}},
    {"LOCAL_RANK not below LOCAL_WORLD_SIZE",
     with(kPlain, {{"LOCAL_RANK", "4"}}),
     {"LOCAL_RANK=4", "LOCAL_WORLD_SIZE=4"}},
    {"LOCAL_WORLD_SIZE above WORLD_SIZE",
     with(kPlain, {{"LOCAL_WORLD_SIZE", "16"}, {"GROUP_RANK", "0"}, {"GROUP_WORLD_SIZE", "1"}}),
     {"LOCAL_WORLD_SIZE=16", "WORLD_SIZE=8"}},
    {"GROUP_RANK not below GROUP_WORLD_SIZE",
     with(kTorchrun, {{"GROUP_RANK", "2"}}),
     {"GROUP_RANK=2", "GROUP_WORLD_SIZE=2"}},
    {"more nodes than ranks",
     with(kTorchrun, {{"GROUP_WORLD_SIZE", "9"}}),
     {"GROUP_WORLD_SIZE=9", "WORLD_SIZE=8"}},
    {"one node but ranks elsewhere",
     with(kTorchrun, {{"GROUP_RANK", "0"}, {"GROUP_WORLD_SIZE", "1"}}),
     {"LOCAL_WORLD_SIZE=4", "WORLD_SIZE=8", "GROUP_WORLD_SIZE=1"}},
    {"nodes left without ranks",
     with(kTorchrun, {{"LOCAL_WORLD_SIZE", "7"}, {"GROUP_WORLD_SIZE", "4"}}),
     {"LOCAL_WORLD_SIZE=7", "WORLD_SIZE=8", "GROUP_WORLD_SIZE=4"}},
    {"nodes cannot be told apart",
     with(kPlain, {{"LOCAL_WORLD_SIZE", "3"}}),
     {"LOCAL_WORLD_SIZE=3", "GROUP_RANK"}},
    {"LOCAL_RANK contradicts RANK",
     with(kPlain, {{"LOCAL_RANK", "3"}}),
     {"LOCAL_RANK=3", "RANK=5", "GROUP_RANK"}},
    {"MASTER_PORT zero", with(kPlain, {{"MASTER_PORT", "0"}}), {"MASTER_PORT='0' is not in 1..65535"}},
    {"MASTER_PORT too large", with(kPlain, {{"MASTER_PORT", "65536"}}), {"MASTER_PORT='65536'"}},
    {"MASTER_PORT a name", with(kPlain, {{"MASTER_PORT", "http"}}), {"MASTER_PORT='http'"}},
    {"MASTER_ADDR a URL",
     with(kPlain, {{"MASTER_ADDR", "tcp://node-0"}}),
     {"MASTER_ADDR='tcp://node-0'", "no scheme"}},
    {"MASTER_ADDR with a port",
     with(kPlain, {{"MASTER_ADDR", "node-0:29500"}}),
     {"MASTER_ADDR='node-0:29500'", "MASTER_PORT"}},
    {"MASTER_ADDR with blanks", with(kPlain, {{"MASTER_ADDR", "node 0"}}), {"MASTER_ADDR='node 0'"}},
    {"MASTER_ADDR overlong",
     with(kPlain, {{"MASTER_ADDR", std::string(300, 'a')}}),
     {"MASTER_ADDR='aaa", "300 characters"}},
    {"run id overlong",
     with(kDdprun, {{"DDP_RUN_ID", std::string(300, 'a')}}),
     {"DDP_RUN_ID='aaa", "300 characters"}},
    {"run id with control characters",
     with(kDdprun, {{"DDP_RUN_ID", "a\nb"}}),
     {"DDP_RUN_ID='a?b'", "control"}},
    {"unknown DDP_LAUNCHER", with(kPlain, {{"DDP_LAUNCHER", "magic"}}), {"DDP_LAUNCHER='magic'"}},
    {"DDP_AGENT_STORE neither yes nor no",
     with(kDdprun, {{"DDP_AGENT_STORE", "maybe"}}),
     {"DDP_AGENT_STORE='maybe'"}},
    {"attempts contradict",
     with(kDdprun, {{"DDP_RESTART_COUNT", "3"}}),
     {"DDP_RESTART_COUNT='3' contradicts TORCHELASTIC_RESTART_COUNT='2'"}},
    {"attempt negative",
     with(kTorchrun, {{"TORCHELASTIC_RESTART_COUNT", "-2"}}),
     {"TORCHELASTIC_RESTART_COUNT='-2' is negative"}},
    {"torchrun without RANK", with(kTorchrun, {{"RANK", kUnset}}), {"RANK is not set", "torchrun"}},
    {"agent store without an address",
     {{"DDP_LAUNCHER", "ddprun"}, {"RANK", "0"}, {"WORLD_SIZE", "1"}, {"DDP_AGENT_STORE", "1"}},
     {"DDP_STORE_ADDR is not set"}},
    {"PyTorchJob meant for a launcher",
     with(kPyTorchJob, {{"PET_NPROC_PER_NODE", "4"}}),
     {"PET_NPROC_PER_NODE='4'", "LOCAL_RANK", "ddprun"}},
    {"PyTorchJob nproc a word",
     with(kPyTorchJob, {{"PET_NPROC_PER_NODE", "many"}}),
     {"PET_NPROC_PER_NODE='many'"}},
    {"PyTorchJob nproc empty",
     with(kPyTorchJob, {{"PET_NPROC_PER_NODE", ""}}),
     {"PET_NPROC_PER_NODE is set but empty"}},
    {"PyTorchJob ranks contradict",
     with(kPyTorchJob, {{"RANK", "2"}}),
     {"RANK='2' contradicts PET_NODE_RANK='1'"}},
    {"PyTorchJob sizes contradict",
     with(kPyTorchJob, {{"WORLD_SIZE", "6"}}),
     {"WORLD_SIZE='6' contradicts PET_NNODES='3'"}},
    {"PyTorchJob addresses contradict",
     with(kPyTorchJob, {{"MASTER_ADDR", "other"}}),
     {"MASTER_ADDR='other' contradicts PET_MASTER_ADDR='job-master-0'"}},
    {"PyTorchJob standalone with three pods",
     with(kPyTorchJob, {{"PET_STANDALONE", ""}}),
     {"PET_STANDALONE=''", "WORLD_SIZE='3'"}},
    {"PET_STANDALONE neither yes nor no",
     with(kPyTorchJob, {{"PET_STANDALONE", "perhaps"}}),
     {"PET_STANDALONE='perhaps'"}},
    {"elastic PyTorchJob without a master",
     {{"PET_NPROC_PER_NODE", "auto"},
      {"PET_NNODES", "1:3"},
      {"PET_RDZV_BACKEND", "c10d"},
      {"PET_RDZV_ENDPOINT", "w:23456"}},
     {"PET_NODE_RANK", "launcher"}},
    {"TrainJob without a size", with(kTrainJob, {{"PET_NNODES", kUnset}}), {"PET_NNODES is not set"}},
    {"TrainJob without an address",
     with(kTrainJob, {{"PET_MASTER_ADDR", kUnset}}),
     {"PET_MASTER_ADDR is not set"}},
    {"Open MPI contradicts RANK",
     with(kOpenMpi, {{"RANK", "0"}}),
     {"RANK='0' contradicts OMPI_COMM_WORLD_RANK='1'"}},
    {"Open MPI contradicts WORLD_SIZE",
     with(kOpenMpi, {{"WORLD_SIZE", "4"}}),
     {"WORLD_SIZE='4' contradicts OMPI_COMM_WORLD_SIZE='2'"}},
    {"Open MPI without a size",
     with(kOpenMpi, {{"OMPI_COMM_WORLD_SIZE", kUnset}}),
     {"OMPI_COMM_WORLD_SIZE is not set"}},
    {"Open MPI over hosts without an address",
     with(kOpenMpi, {{"OMPI_COMM_WORLD_SIZE", "4"}}),
     {"MASTER_ADDR is not set", "mpirun -x MASTER_ADDR="}},
    {"PMI contradicts RANK", with(kPmi, {{"RANK", "0"}}), {"RANK='0' contradicts PMI_RANK='3'"}},
    {"PMI over hosts without an address", with(kPmi, {{"PMI_SIZE", "8"}}), {"MASTER_ADDR is not set"}},
    {"Slurm contradicts PMI",
     with(kSlurm, {{"PMI_RANK", "0"}}),
     {"SLURM_PROCID='4' contradicts PMI_RANK='0'"}},
    {"Slurm rank beyond its step",
     with(kSlurm, {{"SLURM_PROCID", "5"}}),
     {"SLURM_PROCID=5", "SLURM_NTASKS=5"}},
    {"Slurm list broken",
     with(kSlurm, {{"SLURM_STEP_NODELIST", "gpu[03-05"}}),
     {"SLURM_STEP_NODELIST='gpu[03-05'", "bracket"}},
    {"Slurm tasks broken",
     with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", "2(x"}}),
     {"SLURM_STEP_TASKS_PER_NODE='2(x'"}},
    {"Slurm node beyond its list",
     with(kSlurm, {{"SLURM_NODEID", "3"}}),
     {"SLURM_NODEID=3", "SLURM_STEP_TASKS_PER_NODE"}},
    {"Slurm does not tell the tasks here",
     with(kSlurm, {{"SLURM_STEP_TASKS_PER_NODE", kUnset}}),
     {"SLURM_STEP_TASKS_PER_NODE is not set"}},
    {"a batch script without srun",
     {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}},
     {"SLURM_NTASKS='4'", "srun"}},
};

class BadEnvironment : public ::testing::TestWithParam<BadRow> {};

TEST_P(BadEnvironment, IsAConfigErrorThatNamesTheVariables) {
  try {
    const auto env = ClusterEnv::from(lookup_in(GetParam().vars), {.uid = 7, .parent = 99});
    FAIL() << "understood as " << env.describe();
  } catch (const ConfigError& e) {
    for (const auto& piece : GetParam().complaints) EXPECT_THAT(e.what(), HasSubstr(piece));
    EXPECT_LT(std::string(e.what()).size(), 600u) << "an overlong value was not shortened";
  }
}

INSTANTIATE_TEST_SUITE_P(Row, BadEnvironment, ::testing::ValuesIn(kBad), row_name<BadRow>);

TEST(ClusterEnv, DescribesEveryFieldAndWhereItCameFrom) {
  const auto env = ClusterEnv::from(lookup_in(kPlain), {.uid = 7, .parent = 99});
  EXPECT_EQ(
      env.describe(),
      "launcher=plain rank=5 (RANK) world_size=8 (WORLD_SIZE) local_rank=1 (LOCAL_RANK) local_world_size=4 "
      "(LOCAL_WORLD_SIZE) node_rank=1 (rank / local_world_size) node_count=2 (world_size / local_world_size) "
      "master_addr=node-0 (MASTER_ADDR) master_port=29500 (MASTER_PORT) restart_count=0 run_id=none "
      "launcher_hosts_store=no");
}

TEST(ClusterEnv, NamesTheSocketAlikeForEveryRankAndShortEnoughForTheKernel) {
  const auto vars = with(kOpenMpi, {{"PMIX_NAMESPACE", std::string(200, 'n')}});
  const auto env = ClusterEnv::from(lookup_in(vars), {.uid = 4000000000u, .parent = 1});
  EXPECT_LT(env.master_addr.size(), 107u);
  const auto other = with(vars, {{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}});
  EXPECT_EQ(ClusterEnv::from(lookup_in(other), {.uid = 4000000000u, .parent = 1}).master_addr,
            env.master_addr);
}

TEST(ReadEnvironment, TellsUnsetFromEmpty) {
  ::setenv("DDP_TEST_VARIABLE", "", 1);
  EXPECT_EQ(read_environment("DDP_TEST_VARIABLE"), "");
  ::unsetenv("DDP_TEST_VARIABLE");
  EXPECT_EQ(read_environment("DDP_TEST_VARIABLE"), std::nullopt);
}

}  // namespace
}  // namespace ddp
