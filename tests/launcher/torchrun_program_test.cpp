// A program written for torchrun runs under ddprun as it is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/launcher/ddprun_process.h"
#include "tests/launcher/temporary_folder.h"

namespace ddp::testing {
namespace {

constexpr const char* kProgram = R"(
import os
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
value = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(value)
print("rank", dist.get_rank(), "sum", value.item(), "attempt", os.environ["TORCHELASTIC_RESTART_COUNT"], flush=True)
dist.barrier()
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and dist.get_rank() == 1:
    os._exit(3)
dist.destroy_process_group()
)";

TEST(TorchrunProgram, RunsUnchangedAndRestarts) {
  const TemporaryFolder folder;
  const std::string program = folder.file("train.py", kProgram, false);
  DdprunProcess job({"--nproc-per-node=2", "--max-restarts=1", TORCH_PYTHON, program});
  EXPECT_EQ(job.wait(), 0) << job.err();
  for (const char* line : {"[0] rank 0 sum 3.0 attempt 1\n", "[1] rank 1 sum 3.0 attempt 1\n"})
    EXPECT_EQ(count(job.out(), line), 1) << job.out();
  EXPECT_TRUE(job.nothing_left());
}

}  // namespace
}  // namespace ddp::testing
