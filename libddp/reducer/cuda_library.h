// CUDA on request: a rank on CPU does not pay for libtorch_cuda (about 350 MB and 0.3 s;
// docs/decisions/0013-cuda-is-opened-when-asked-for.md).
#pragma once

namespace ddp {

/// Opens libtorch_cuda.so beside the loaded libtorch_cpu.so; must come before the first call that asks for CUDA.
/// Returns the number of devices. Throws ConfigError that says what is missing: the library, or a driver with a device.
int open_cuda();

}  // namespace ddp
