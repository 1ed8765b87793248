// N ranks of a job as threads, each with a Context.
#pragma once

#include <ddp/context.h>
#include <ddp/rendezvous.h>

#include "tests/comm/thread_ranks.h"

namespace ddp::testing {

/// As run_ranks; returns what each rank threw.
inline std::vector<std::string> run_contexts(const Layout& layout,
                                             const std::function<void(const Context&)>& body) {
  return run_ranks(layout, [&](Communicator& communicator) {
    ClusterEnv env;
    env.rank = communicator.rank();
    env.world_size = communicator.size();
    const std::shared_ptr<Communicator> borrowed(&communicator, [](Communicator*) {});
    body(
        Context(env, make_memory_store(), borrowed, std::make_shared<SingleGroup>(), c10::Device(c10::kCPU)));
  });
}

}  // namespace ddp::testing
