# Sources of the reductions.
set(DDP_COMM_KERNEL_SOURCES reduce_kernels.cpp reduce_kernels_baseline.cpp)

# The kernels are compiled once per instruction set and chosen at run time; optimised in every build type, contraction off so that all
# sets give the same bits.
set(DDP_KERNEL_FLAGS -O3 -ffp-contract=off)
set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/reduce_kernels_baseline.cpp" PROPERTIES COMPILE_OPTIONS "${DDP_KERNEL_FLAGS}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND DDP_COMM_KERNEL_SOURCES reduce_kernels_avx2.cpp reduce_kernels_avx512.cpp)
  set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/reduce_kernels_avx2.cpp" PROPERTIES COMPILE_OPTIONS
    "${DDP_KERNEL_FLAGS};-mavx2;-mf16c")
  set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/reduce_kernels_avx512.cpp" PROPERTIES COMPILE_OPTIONS
    "${DDP_KERNEL_FLAGS};-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mf16c;-mprefer-vector-width=512")
  set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/reduce_kernels.cpp" PROPERTIES COMPILE_DEFINITIONS DDP_KERNELS_X86)
endif()

list(TRANSFORM DDP_COMM_KERNEL_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
