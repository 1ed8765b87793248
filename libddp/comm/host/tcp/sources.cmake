# Sources of the TCP part of the host backend.
set(DDP_COMM_TCP_SOURCES acceptor.cpp chain.cpp control_link.cpp data_links.cpp direct.cpp engine.cpp exchange.cpp fold.cpp mesh.cpp messages.cpp
  plan.cpp ring.cpp roster.cpp socket.cpp tcp_group.cpp wire.cpp)
list(TRANSFORM DDP_COMM_TCP_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
