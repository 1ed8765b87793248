# Sources of the collective algorithms over point-to-point transfers.
set(DDP_COMM_EXCHANGE_SOURCES chain.cpp direct.cpp exchange.cpp fold.cpp frame.cpp plan.cpp ring.cpp)
list(TRANSFORM DDP_COMM_EXCHANGE_SOURCES PREPEND "${CMAKE_CURRENT_LIST_DIR}/")
