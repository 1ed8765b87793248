#include "libddp/comm/mpi/runtime.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>

#include <ddp/error.h>

namespace ddp::mpi {
namespace {

std::atomic<bool> finalizes{false};

void finalize() {
  if (finalizes && !is_finalized()) MPI_Finalize();
}

void initialize() {
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "MPI_Init_thread");
  finalizes = true;
  std::atexit(finalize);
}

const char* name_of(int level) {
  switch (level) {
    case MPI_THREAD_SINGLE:
      return "MPI_THREAD_SINGLE";
    case MPI_THREAD_FUNNELED:
      return "MPI_THREAD_FUNNELED";
    case MPI_THREAD_SERIALIZED:
      return "MPI_THREAD_SERIALIZED";
    default:
      return "MPI_THREAD_MULTIPLE";
  }
}

}  // namespace

void require_mpi() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (is_finalized())
    throw ConfigError(
        "backend 'mpi': MPI has been finalised in this process and cannot be initialised again");
  int initialized = 0;
  check(MPI_Initialized(&initialized), "MPI_Initialized");
  if (initialized == 0) initialize();
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Query_thread(&provided), "MPI_Query_thread");
  if (provided < MPI_THREAD_MULTIPLE)
    throw ConfigError(
        std::string("backend 'mpi' needs MPI_THREAD_MULTIPLE, but MPI ") +
        (initialized != 0 ? "was initialised by this program with " : "gives only ") + name_of(provided) +
        (initialized != 0 ? ": call MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided)"
                          : ": use an MPI that is built with threads"));
}

void give_up_finalizing() noexcept {
  finalizes = false;
}

bool is_finalized() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized != 0;
}

void check(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw Error(std::string(what) + " failed: " + std::string(text.data(), static_cast<std::size_t>(length)));
}

}  // namespace ddp::mpi
