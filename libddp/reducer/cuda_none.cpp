// Stands in for cuda_library.cpp in a build without CUDA.
#include <ddp/error.h>

#include "libddp/reducer/cuda_library.h"

namespace ddp {

int open_cuda() {
  throw ConfigError(
      "device 'cuda' asked for, but this libddp was built without CUDA (DDP_CUDA=OFF, or a LibTorch without "
      "libtorch_cuda): build it with DDP_CUDA=ON, or use device 'cpu'");
}

}  // namespace ddp
