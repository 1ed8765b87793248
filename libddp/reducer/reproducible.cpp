#include "libddp/reducer/reproducible.h"

#include <cstdlib>

#include <ddp/cluster_env.h>

namespace ddp {
namespace {

const char* mode() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return "AVX2,STRICT";
#endif
  return "COMPATIBLE";
}

}  // namespace

void request_reproducible_kernels() {
  if (!read_environment("MKL_CBWR")) ::setenv("MKL_CBWR", mode(), 0);
}

}  // namespace ddp
