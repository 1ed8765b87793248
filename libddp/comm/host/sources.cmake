# Sources of the host backend: shared memory within a host, TCP (tcp/) between hosts. Part of ddp::comm.
include("${CMAKE_CURRENT_LIST_DIR}/tcp/sources.cmake")  # sets DDP_COMM_TCP_SOURCES
set(DDP_COMM_HOST_SOURCES failure.cpp)
list(TRANSFORM DDP_COMM_HOST_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
list(APPEND DDP_COMM_HOST_SOURCES ${DDP_COMM_TCP_SOURCES})
