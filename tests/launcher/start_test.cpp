// What is looked at before anything runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/launcher/ddprun_process.h"

namespace ddp::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Ddprun, LoadsNoTorch) {
  // The dynamic linker lists what it would load, and runs nothing.
  ProcessSetup setup;
  setup.environment = {{"LD_TRACE_LOADED_OBJECTS", "1"}};
  DdprunProcess job({}, setup);
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(job.out(), HasSubstr("libddp_core"));
  for (const char* library : {"torch", "c10", "cuda", "mpi"}) EXPECT_THAT(job.out(), Not(HasSubstr(library)));
}

TEST(Ddprun, PrintsHelpAndVersion) {
  DdprunProcess help({"--help"});
  EXPECT_EQ(help.wait(), 0);
  EXPECT_THAT(help.out(), HasSubstr("--nproc-per-node"));
  DdprunProcess version({"--version"});
  EXPECT_EQ(version.wait(), 0);
  EXPECT_THAT(version.out(), HasSubstr("ddprun "));
}

TEST(Ddprun, ReadsPetVariables) {
  ProcessSetup setup;
  setup.environment = {{"PET_NPROC_PER_NODE", "3"}, {"PET_STANDALONE", ""}, {"PET_NNODES", "4"}};
  DdprunProcess job({"sh", "-c", "echo $RANK/$WORLD_SIZE"}, setup);
  EXPECT_EQ(job.wait(), 0);
  EXPECT_THAT(job.out(), HasSubstr("2/3\n"));
}

TEST(Ddprun, HandsArgumentsOverUntouched) {
  DdprunProcess job({"--nproc-per-node", "1", "--", "printf", "%s|", "--nnodes", "a b", "", "--", "-h", "*"});
  EXPECT_EQ(job.wait(), 0);
  EXPECT_EQ(job.out(), "[0] --nnodes|a b||--|-h|*|\n");
}

}  // namespace
}  // namespace ddp::testing
