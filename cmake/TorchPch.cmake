# One precompiled torch/torch.h for every target that includes torch: without it each such file costs about 30 s.
#
#   ddp_use_torch_pch(TARGET)
#
# GCC accepts a precompiled header only under the same code generation flags, so executables are compiled with -fPIC like libraries.
find_package(Threads REQUIRED)
if(NOT TARGET ddp_torch_pch)
  file(WRITE "${PROJECT_BINARY_DIR}/torch_pch.cpp" "// Carries the precompiled header.\n")
  add_library(ddp_torch_pch OBJECT "${PROJECT_BINARY_DIR}/torch_pch.cpp")
  target_link_libraries(ddp_torch_pch PRIVATE ddp_settings LibTorch::torch Threads::Threads)
  target_precompile_headers(ddp_torch_pch PRIVATE <torch/torch.h>)
  set_target_properties(ddp_torch_pch PROPERTIES JOB_POOL_COMPILE torch)
  # Files with torch take about 1.5 GB each to compile.
  set_property(GLOBAL APPEND PROPERTY JOB_POOLS torch=2)
endif()

function(ddp_use_torch_pch target)
  get_target_property(_type ${target} TYPE)
  if(_type STREQUAL "EXECUTABLE")
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
  target_precompile_headers(${target} REUSE_FROM ddp_torch_pch)
  set_target_properties(${target} PROPERTIES JOB_POOL_COMPILE torch)
endfunction()
