#include "libddp/reducer/cuda_library.h"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include <string>

#include <ddp/error.h>

namespace ddp {
namespace {

/// libtorch_cuda.so stands beside the libtorch_cpu.so that this process runs on.
std::string sibling_of_torch_cpu(const std::string& name) {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) == 0 || info.dli_fname == nullptr)
    return name;
  const std::string path = info.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + name;
}

}  // namespace

int open_cuda() {
  const std::string path = sibling_of_torch_cpu("libtorch_cuda.so");
  if (::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
    throw ConfigError("device 'cuda' asked for, but " + path + " cannot be opened: " + ::dlerror() +
                      ". Use a LibTorch with CUDA, or device 'cpu'.");
  if (!at::detail::getCUDAHooks().hasCUDA())
    throw ConfigError(
        "device 'cuda' asked for, but no usable GPU or driver is there (libtorch_cuda was opened). Check "
        "nvidia-smi, or "
        "use device 'cpu'.");
  return at::detail::getCUDAHooks().deviceCount();
}

}  // namespace ddp
