// A rank of the MPI side: mpirun -np N bench_comm_mpi SOCKET. In place, blocking, on memory from malloc.
#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "tests/bench/comm/control.h"

namespace {

class Worker {
 public:
  double measure(const bench::Run& run) {
    float* const data = buffer_of(run.bytes);
    const int count = static_cast<int>(run.bytes / sizeof(float));
    return bench::time_loop(
        run, [] { MPI_Barrier(MPI_COMM_WORLD); },
        [&] { MPI_Allreduce(MPI_IN_PLACE, data, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD); });
  }

 private:
  /// Verified when it is new, zeros afterwards.
  float* buffer_of(std::size_t bytes) {
    float*& data = memory_[bytes];
    if (data != nullptr) return data;
    data = static_cast<float*>(std::aligned_alloc(64, bytes));
    const std::size_t count = bytes / sizeof(float);
    int rank = 0;
    int ranks = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    bench::fill(data, count, rank);
    MPI_Allreduce(MPI_IN_PLACE, data, static_cast<int>(count), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    bench::check_sum(data, count, ranks);
    std::memset(data, 0, bytes);
    return data;
  }

  std::map<std::size_t, float*> memory_;  ///< kept until the process ends
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) throw std::runtime_error("usage: mpirun -np N bench_comm_mpi SOCKET");
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  {
    Worker worker;
    const bench::Control control(argv[1], rank);
    while (const auto run = control.next()) {
      try {
        control.answer(worker.measure(*run));
      } catch (const std::exception& error) {
        control.error(error.what());
      }
    }
  }
  MPI_Finalize();
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_comm_mpi: %s\n", error.what());
  return 1;
}
