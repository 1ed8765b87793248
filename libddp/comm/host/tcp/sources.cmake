# Sources of the TCP part of the host backend.
set(DDP_COMM_TCP_SOURCES acceptor.cpp control_link.cpp data_links.cpp engine.cpp mesh.cpp messages.cpp
  roster.cpp socket.cpp tcp_group.cpp)
list(TRANSFORM DDP_COMM_TCP_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
