# Sources of libddp/rendezvous; they are part of ddp::core (one torch-free library for "who am I and where are the others").
set(DDP_RENDEZVOUS_SOURCES auth.cpp authenticate.cpp cluster_env.cpp cluster_fields.cpp endpoint_rules.cpp env_reader.cpp
  connect.cpp environment.cpp handshake.cpp hostlist.cpp join_job.cpp launchers.cpp memory_store.cpp node_env.cpp prefix_store.cpp
  store_client.cpp store_connection.cpp store_group.cpp store_server.cpp store_session.cpp store_state.cpp store_wire.cpp)
if(DDP_WITH_TLS)
  list(APPEND DDP_RENDEZVOUS_SOURCES tls_openssl.cpp)
else()
  list(APPEND DDP_RENDEZVOUS_SOURCES tls_none.cpp)
endif()
list(TRANSFORM DDP_RENDEZVOUS_SOURCES PREPEND "${PROJECT_SOURCE_DIR}/libddp/rendezvous/")
