// One set of reduction kernels, compiled for one instruction set. Which sets exist is CMake's decision (sources.cmake).
#pragma once

#include <cstddef>

#include <ddp/types.h>

namespace ddp::comm {

struct KernelTable {
  void (*reduce)(void* destination, const void* const* inputs, std::size_t n, std::size_t count, DType dtype,
                 std::size_t width, ReduceOp op, double factor);
  void (*scale)(void* data, std::size_t count, DType dtype, double factor);
  void (*widen)(float* destination, const void* source, std::size_t count, DType dtype, float factor);
  void (*narrow)(void* destination, const float* source, std::size_t count, DType dtype);
  void (*copy)(void* destination, const void* source, std::size_t bytes);
};

extern const KernelTable kBaselineKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;

/// The sets this CPU can run, slowest first: tests compare them with each other.
struct KernelSet {
  const char* name;
  const KernelTable* table;
};
struct KernelSets {
  KernelSet sets[3];
  std::size_t count;
};
[[nodiscard]] KernelSets available_kernels();

}  // namespace ddp::comm
