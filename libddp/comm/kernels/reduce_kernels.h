// Elementwise reductions over plain memory, vectorised for the CPU this process runs on.
//
// Each kernel is compiled several times (baseline, AVX2 + F16C, AVX-512) and chosen once, at the first call.
// None is allowed to contract a multiplication and an addition, so all variants give the same bits and ranks
// on different CPUs agree.
//
// Pure functions of their arguments: any thread. Pointers need no alignment.
#pragma once

#include <cstddef>
#include <span>

#include <ddp/types.h>

namespace ddp::comm {

/// destination[i] = inputs[0][i] op inputs[1][i] op ..., combined in this order. For kMean every input is multiplied by
/// `scale` first and the products are summed. fp16 and bf16 accumulate in fp32 and round once. `destination` may equal
/// one of the inputs but must not overlap one otherwise. supports(dtype, op) must hold.
void reduce(void* destination, std::span<const void* const> inputs, std::size_t count, DType dtype,
            ReduceOp op, double scale);

/// data[i] *= factor (floating point and complex).
void scale(void* data, std::size_t count, DType dtype, double factor);

/// destination[i] = float(source[i]) * factor, for fp16 and bf16.
void widen(float* destination, const void* source, std::size_t count, DType dtype, float factor);

/// destination[i] = source[i] rounded to nearest even, for fp16 and bf16.
void narrow(void* destination, const float* source, std::size_t count, DType dtype);

/// Copies between memory that does not overlap; fast also where memcpy is not (see the implementation).
void copy_bytes(void* destination, const void* source, std::size_t bytes);

}  // namespace ddp::comm

namespace ddp::host {
using namespace comm;
}  // namespace ddp::host
