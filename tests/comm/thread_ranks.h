// N ranks of a host communicator as threads of this process.
//
//   const auto errors = run_ranks({.hosts = {2, 1}}, [](Communicator& comm) { comm.barrier(); });
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <ddp/communicator.h>
#include <ddp/error.h>

#include <ddp/rendezvous.h>

namespace ddp::testing {

struct Layout {
  std::vector<int> hosts{2};  ///< ranks of each pretended host
  std::chrono::nanoseconds timeout = std::chrono::seconds(60);

  [[nodiscard]] int world_size() const {
    int sum = 0;
    for (const int ranks : hosts) sum += ranks;
    return sum;
  }
  [[nodiscard]] std::string name() const {
    std::string text;
    for (const int ranks : hosts) text += (text.empty() ? "hosts_" : "_") + std::to_string(ranks);
    return text;
  }
};

/// Layouts of more than one rank.
inline std::vector<std::vector<int>> several_ranks() {
  return {{2}, {3}, {4}, {1, 1}, {1, 1, 1}, {2, 2}, {1, 2}, {3, 2}};
}

/// Never waits longer than the layout's timeout for anything.
inline HostCommunicatorOptions options_of(const Layout& layout, int rank) {
  HostCommunicatorOptions options;
  options.rank = rank;
  options.world_size = layout.world_size();
  options.timeout = layout.timeout;
  options.init_timeout = std::chrono::seconds(60);
  options.token = "a token for tests only";
  int host = 0;
  for (int left = rank; left >= layout.hosts[static_cast<std::size_t>(host)]; ++host)
    left -= layout.hosts[static_cast<std::size_t>(host)];
  options.host_id = "host-" + std::to_string(host);
  options.host_name = options.host_id;
  return options;
}

/// Runs `body` on every rank; returns what each threw ("TimeoutError: ..."), empty where nothing was thrown.
inline std::vector<std::string> run_ranks(const Layout& layout,
                                          const std::function<void(Communicator&)>& body) {
  auto store = make_memory_store();
  std::vector<std::string> errors(static_cast<std::size_t>(layout.world_size()));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < layout.world_size(); ++rank)
    threads.emplace_back([&, rank] {
      try {
        const auto communicator = make_host_communicator(options_of(layout, rank), store);
        body(*communicator);
      } catch (const Error& error) {
        errors[static_cast<std::size_t>(rank)] = std::string(to_string(error.kind())) + ": " + error.what();
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  for (auto& thread : threads) thread.join();
  return errors;
}

}  // namespace ddp::testing
