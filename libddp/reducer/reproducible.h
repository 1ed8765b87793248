// The same bits in every run of a program, which a restarted job needs to go on exactly where it was.
#pragma once

namespace ddp {

/// MKL, which multiplies LibTorch's matrices, measures the processor when it starts and chooses its code by what it saw:
/// with several threads about one process in thirty computes other last bits than the rest (docs/decisions/0016). This
/// asks for one code always, MKL_CBWR=AVX2,STRICT. Has an effect only before the first matrix product of the process;
/// leaves MKL_CBWR alone where somebody has set it. Not while other threads read the environment.
void request_reproducible_kernels();

}  // namespace ddp
