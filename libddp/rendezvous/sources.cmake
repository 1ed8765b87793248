# Sources of libddp/rendezvous; they are part of ddp::core (one torch-free library for "who am I and where are the others").
set(DDP_RENDEZVOUS_SOURCES auth.cpp authenticate.cpp handshake.cpp)
list(TRANSFORM DDP_RENDEZVOUS_SOURCES PREPEND "${PROJECT_SOURCE_DIR}/libddp/rendezvous/")
