#include "libddp/comm/kernels/reduce_kernels.h"

#include "libddp/comm/kernels/kernel_table.h"

namespace ddp::comm {

KernelSets available_kernels() {
  KernelSets result{{{"baseline", &kBaselineKernels}}, 1};
#ifdef DDP_KERNELS_X86
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c"))
    result.sets[result.count++] = {"avx2", &kAvx2Kernels};
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
    result.sets[result.count++] = {"avx512", &kAvx512Kernels};
#endif
  return result;
}

namespace {

const KernelTable& kernels() {
  static const KernelTable& best = []() -> const KernelTable& {
    const KernelSets all = available_kernels();
    return *all.sets[all.count - 1].table;
  }();
  return best;
}

}  // namespace

void reduce(void* destination, std::span<const void* const> inputs, std::size_t count, DType dtype,
            ReduceOp op, double factor) {
  kernels().reduce(destination, inputs.data(), inputs.size(), count, dtype, size_of(dtype), op, factor);
}

void scale(void* data, std::size_t count, DType dtype, double factor) {
  kernels().scale(data, count, dtype, factor);
}

void widen(float* destination, const void* source, std::size_t count, DType dtype, float factor) {
  kernels().widen(destination, source, count, dtype, factor);
}

void narrow(void* destination, const float* source, std::size_t count, DType dtype) {
  kernels().narrow(destination, source, count, dtype);
}

void copy_bytes(void* destination, const void* source, std::size_t bytes) {
  kernels().copy(destination, source, bytes);
}

}  // namespace ddp::comm
