# Sources of libddp/rendezvous; they are part of ddp::core (one torch-free library for "who am I and where are the others").
set(DDP_RENDEZVOUS_SOURCES auth.cpp authenticate.cpp cluster_env.cpp cluster_fields.cpp endpoint_rules.cpp env_reader.cpp
  environment.cpp handshake.cpp hostlist.cpp launchers.cpp node_env.cpp)
list(TRANSFORM DDP_RENDEZVOUS_SOURCES PREPEND "${PROJECT_SOURCE_DIR}/libddp/rendezvous/")
