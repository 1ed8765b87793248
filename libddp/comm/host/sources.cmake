# Sources of the host backend: shared memory within a host (shm/), TCP between hosts (tcp/). Part of ddp::comm.
include("${CMAKE_CURRENT_LIST_DIR}/tcp/sources.cmake")  # sets DDP_COMM_TCP_SOURCES
set(DDP_COMM_HOST_SOURCES
  describe.cpp failure.cpp hierarchical.cpp host_communicator.cpp serial_executor.cpp
  reduce_kernels.cpp reduce_kernels_baseline.cpp
  shm/arena.cpp shm/fd_passing.cpp shm/lanes.cpp shm/local_link.cpp shm/local_sync.cpp
  shm/shm_all_reduce.cpp shm/shm_group.cpp shm/shm_pull.cpp)

# The kernels are compiled once per instruction set and chosen at run time; optimised in every build type, contraction off so that all
# sets give the same bits.
set(DDP_KERNEL_FLAGS -O3 -ffp-contract=off)
set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/reduce_kernels_baseline.cpp" PROPERTIES COMPILE_OPTIONS "${DDP_KERNEL_FLAGS}")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND DDP_COMM_HOST_SOURCES reduce_kernels_avx2.cpp reduce_kernels_avx512.cpp)
  set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/reduce_kernels_avx2.cpp" PROPERTIES COMPILE_OPTIONS
    "${DDP_KERNEL_FLAGS};-mavx2;-mf16c")
  set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/reduce_kernels_avx512.cpp" PROPERTIES COMPILE_OPTIONS
    "${DDP_KERNEL_FLAGS};-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mf16c;-mprefer-vector-width=512")
  set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/reduce_kernels.cpp" PROPERTIES COMPILE_DEFINITIONS DDP_KERNELS_X86)
endif()

list(TRANSFORM DDP_COMM_HOST_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
list(APPEND DDP_COMM_HOST_SOURCES ${DDP_COMM_TCP_SOURCES})
