# Sources of the host backend: shared memory within a host (shm/), TCP between hosts (tcp/). Part of ddp::comm.
include("${CMAKE_CURRENT_LIST_DIR}/tcp/sources.cmake")  # sets DDP_COMM_TCP_SOURCES
set(DDP_COMM_HOST_SOURCES
  hierarchical.cpp host_communicator.cpp
  shm/arena.cpp shm/fd_passing.cpp shm/lanes.cpp shm/local_link.cpp shm/local_sync.cpp
  shm/shm_all_reduce.cpp shm/shm_group.cpp shm/shm_pull.cpp)

list(TRANSFORM DDP_COMM_HOST_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
list(APPEND DDP_COMM_HOST_SOURCES ${DDP_COMM_TCP_SOURCES})
