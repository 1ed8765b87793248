// N ranks of an MPI communicator, each a process of mpirun: every process runs every test.
//
//   const auto errors = run_ranks({.hosts = {2}}, [](Communicator& comm) { comm.barrier(); });
//
// The first N processes take part, the others wait. All get the errors of all, so that all check the same.
#pragma once

#include <mpi.h>

#include <functional>
#include <string>
#include <vector>

#include <ddp/error.h>
#include <ddp/mpi_communicator.h>

namespace ddp::testing {

struct Layout {
  std::vector<int> hosts{2};  ///< the sum counts: MPI decides who shares a host
  std::chrono::nanoseconds timeout = std::chrono::seconds(60);

  [[nodiscard]] int world_size() const {
    int sum = 0;
    for (const int ranks : hosts) sum += ranks;
    return sum;
  }
  [[nodiscard]] std::string name() const { return "ranks_" + std::to_string(world_size()); }
};

/// As many as the tests are started with (CMakeLists.txt).
inline std::vector<std::vector<int>> several_ranks() {
  return {{2}, {3}, {4}};
}

/// Everybody's text, on every process.
inline std::vector<std::string> exchange_texts(const std::string& mine) {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  constexpr int kLongest = 2000;
  std::string all(static_cast<std::size_t>(size) * kLongest, '\0'), own = mine.substr(0, kLongest - 1);
  own.resize(kLongest);
  MPI_Allgather(own.data(), kLongest, MPI_CHAR, all.data(), kLongest, MPI_CHAR, MPI_COMM_WORLD);
  std::vector<std::string> texts;
  for (int rank = 0; rank < size; ++rank)
    texts.emplace_back(all.data() + static_cast<std::ptrdiff_t>(rank) * kLongest);
  return texts;
}

inline std::vector<std::string> run_ranks(const Layout& layout,
                                          const std::function<void(Communicator&)>& body) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm part = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank < layout.world_size() ? 0 : MPI_UNDEFINED, rank, &part);
  std::string error;
  if (part != MPI_COMM_NULL) {
    try {
      const auto communicator = make_mpi_communicator({.adopt = &part, .timeout = layout.timeout});
      body(*communicator);
    } catch (const Error& e) {
      error = std::string(to_string(e.kind())) + ": " + e.what();
    } catch (const std::exception& e) {
      error = e.what();
    }
    MPI_Comm_free(&part);
  }
  auto errors = exchange_texts(error);
  errors.resize(static_cast<std::size_t>(layout.world_size()));
  return errors;
}

}  // namespace ddp::testing
