// torchrun's own store as a ddp::Store: under torchrun the agent holds MASTER_PORT with a c10d::TCPStore, and
// every rank is its client.
//
// c10d's client holds one lock while it waits on the server, so waits here are polls with growing pauses (1
// to 20 ms): threads that share the store do not block each other. Keys must carry a prefix per restart
// attempt (make_prefix_store): torchrun keeps its store over restarts.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include <ddp/store.h>

namespace ddp {

/// Connects to the agent's store; throws RendezvousError naming the endpoint.
[[nodiscard]] std::shared_ptr<Store> connect_torchrun_store(const std::string& host, std::uint16_t port,
                                                            std::chrono::nanoseconds timeout);

}  // namespace ddp
