// The same numbers in every run, which a restarted job needs to go on exactly where it was.
#pragma once

namespace ddp {

/// Asks MKL, which multiplies LibTorch's matrices, for results that do not depend on how threads were scheduled (its
/// "conditional numerical reproducibility", strict mode). Without it about one run in ten with two threads differs in
/// the last bits, and after some steps visibly. Has an effect only before the first matrix product of the process.
/// Leaves MKL_CBWR as it is where somebody has set it. Not while other threads read the environment.
void request_reproducible_kernels();

}  // namespace ddp
