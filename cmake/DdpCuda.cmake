# DDP_CUDA=AUTO|ON|OFF -> DDP_WITH_CUDA: whether ddp::init() may be asked for device "cuda". It chooses one of two source files; nothing
# is linked to CUDA either way: libtorch_cuda is opened at run time (docs/decisions/0013-cuda-is-opened-when-asked-for.md).
string(TOUPPER "${DDP_CUDA}" _cuda)
if(NOT _cuda MATCHES "^(AUTO|ON|OFF|1|0|TRUE|FALSE|YES|NO)$")
  message(FATAL_ERROR "DDP_CUDA=${DDP_CUDA}: give ON, OFF or AUTO")
endif()
set(DDP_WITH_CUDA OFF)
if(EXISTS "${LibTorch_ROOT_FOUND}/lib/libtorch_cuda.so" AND (_cuda STREQUAL "AUTO" OR _cuda))
  set(DDP_WITH_CUDA ON)
elseif(_cuda AND NOT _cuda STREQUAL "AUTO")
  message(FATAL_ERROR "DDP_CUDA=${DDP_CUDA}, but the LibTorch in ${LibTorch_ROOT_FOUND} has no lib/libtorch_cuda.so: use a LibTorch with "
    "CUDA, or DDP_CUDA=OFF")
endif()
message(STATUS "Device cuda: ${DDP_WITH_CUDA} (DDP_CUDA=${DDP_CUDA})")
