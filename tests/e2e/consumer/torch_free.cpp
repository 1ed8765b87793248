// Collectives over plain memory, without LibTorch.
#include <ddp/communicator.h>
#include <ddp/rendezvous.h>

#include <cstdio>

int main() {
  const auto env = ddp::ClusterEnv::from_environment();
  const auto store = ddp::join_job(env);
  const auto communicator =
      ddp::make_host_communicator({.rank = env.rank, .world_size = env.world_size}, store);
  float value = 1;
  communicator->all_reduce({&value, 1, ddp::DType::kFloat32});
  std::printf("sum over ranks: %g\n", value);
}
