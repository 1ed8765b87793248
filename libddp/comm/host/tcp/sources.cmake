# Sources of the TCP part of the host backend.
set(DDP_COMM_TCP_SOURCES)
list(TRANSFORM DDP_COMM_TCP_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
