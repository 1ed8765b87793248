#include "libddp/reducer/reproducible.h"

#include <cstdlib>

#include <ddp/cluster_env.h>

namespace ddp {
namespace {

/// "oneMKL Developer Guide: Reproducibility Conditions". STRICT exists from AVX2 on; below it, and on other makers'
/// processors, MKL falls back to what it has.
const char* mode() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return "AVX512,STRICT";
  if (__builtin_cpu_supports("avx2")) return "AVX2,STRICT";
#endif
  return "COMPATIBLE";
}

}  // namespace

void request_reproducible_kernels() {
  if (!read_environment("MKL_CBWR")) ::setenv("MKL_CBWR", mode(), 0);
}

}  // namespace ddp
