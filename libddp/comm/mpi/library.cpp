// Part of ddp::comm: finds and loads libddp_mpi.
#include "libddp/comm/mpi/library.h"

#include <dlfcn.h>

#include <cstring>
#include <string>

#include <ddp/error.h>

namespace ddp {
namespace {

/// RTLD_GLOBAL: MPI loads plug-ins that look for its symbols. Never unloaded: MPI has threads and exit handlers.
const mpi::Library& open_library() {
  const std::string file = "libddp_mpi.so." DDP_SOVERSION;
  void* const handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (handle == nullptr) {
    const char* why = ::dlerror();
    throw ConfigError(
        std::string("backend 'mpi' cannot be loaded: ") + (why ? why : file.c_str()) +
        ". Install Open MPI (libopenmpi3) and build libddp where its headers are (-DDDP_MPI=ON), or use "
        "backend 'host'");
  }
  const auto* library = static_cast<const mpi::Library*>(::dlsym(handle, mpi::kSymbol));
  if (library == nullptr || std::strcmp(library->interface, mpi::kInterface) != 0)
    throw ConfigError(file + " is of another build of libddp (" +
                      (library == nullptr ? "no " + std::string(mpi::kSymbol) : library->interface) +
                      ", not " + mpi::kInterface + "): install both from one build");
  return *library;
}

}  // namespace

std::shared_ptr<Communicator> make_mpi_communicator(const MpiCommunicatorOptions& options) {
  static const mpi::Library& library = open_library();
  return library.make(options);
}

}  // namespace ddp
