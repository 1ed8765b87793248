// A rank of libddp's side: bench_comm_ddp SOCKET [ADDRESS]. Modes: resident (memory from Communicator::allocate) and ordinary
// (memory from malloc). The ranks meet by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; ADDRESS is where other hosts
// reach this one.
#include <ddp/communicator.h>
#include <ddp/rendezvous.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

#include "tests/bench/comm/control.h"

namespace {

using Key = std::pair<std::string, std::size_t>;

class Worker {
 public:
  Worker(const ddp::ClusterEnv& env, const std::string& address) : store_(ddp::join_job(env)) {
    comm_ = ddp::make_host_communicator({.rank = env.rank,
                                         .world_size = env.world_size,
                                         .bind_address = address,
                                         .token = ddp::read_environment("DDP_JOB_TOKEN").value_or("")},
                                        store_);
  }

  double measure(const bench::Run& run) {
    const ddp::Buffer buffer = buffer_of(run);
    return bench::time_loop(
        run, [this] { comm_->barrier(); }, [&] { comm_->all_reduce(buffer); });
  }

 private:
  /// Verified when it is new, zeros afterwards: sums of zeros stay zeros, however often.
  ddp::Buffer buffer_of(const bench::Run& run) {
    auto [memory, is_new] = memory_.try_emplace({run.mode, run.bytes});
    if (is_new) {
      if (run.mode == "resident")
        memory->second = comm_->allocate(run.bytes);
      else
        memory->second = {std::aligned_alloc(64, run.bytes), run.bytes, nullptr};
    }
    auto* data = static_cast<float*>(memory->second.data());
    const ddp::Buffer buffer{data, run.bytes / sizeof(float), ddp::DType::kFloat32};
    if (is_new) {
      bench::fill(data, buffer.count, comm_->rank());
      comm_->all_reduce(buffer);
      bench::check_sum(data, buffer.count, comm_->size());
      std::memset(data, 0, run.bytes);
    }
    return buffer;
  }

  std::shared_ptr<ddp::Store> store_;
  std::shared_ptr<ddp::Communicator> comm_;
  std::map<Key, ddp::Allocation> memory_;  ///< kept until the process ends
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) throw std::runtime_error("usage: bench_comm_ddp SOCKET [ADDRESS]");
  const ddp::ClusterEnv env = ddp::ClusterEnv::from_environment();
  Worker worker(env, argc > 2 ? argv[2] : "");
  const bench::Control control(argv[1], env.rank);
  while (const auto run = control.next()) {
    try {
      control.answer(worker.measure(*run));
    } catch (const std::exception& error) {
      control.error(error.what());
    }
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_comm_ddp: %s\n", error.what());
  return 1;
}
