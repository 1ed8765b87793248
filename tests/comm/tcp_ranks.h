// N ranks of a TcpGroup as threads of this process, over loopback.
//
//   const auto errors = run_tcp_ranks({.ranks = 3}, [](TcpRank& self) { self.run(barrier(1)); });
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <ddp/error.h>

#include "libddp/comm/host/tcp/tcp_group.h"
#include "tests/comm/memory_store.h"

namespace ddp::testing {

struct TcpLayout {
  int ranks = 2;
  int streams = 2;
  std::string bind_address;
};

struct TcpRank {
  int rank = 0;
  int size = 1;
  host::Failure failure;
  std::unique_ptr<host::TcpGroup> group;

  void run(const Operation& operation) {
    group->run(operation, [] {});
  }
};

inline host::TcpOptions tcp_options(const TcpLayout& layout, int rank) {
  return {rank,
          layout.ranks,
          "a token for tests only",
          layout.bind_address,
          layout.streams,
          "host-" + std::string(1, static_cast<char>('a' + rank))};
}

/// An operation that gives up after 30 s.
inline Operation operation(OpKind kind, std::uint64_t sequence) {
  Operation result;
  result.kind = kind;
  result.sequence = sequence;
  result.deadline = Deadline::in(std::chrono::seconds(30));
  return result;
}

inline std::string describe_error(const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  return (known ? std::string(to_string(known->kind())) + ": " : std::string()) + error.what();
}

/// Runs `body` on every rank; returns what each threw ("TimeoutError: ..."), empty where nothing was thrown.
inline std::vector<std::string> run_tcp_ranks(const TcpLayout& layout,
                                              const std::function<void(TcpRank&)>& body) {
  MemoryStore store;
  std::vector<std::string> errors(static_cast<std::size_t>(layout.ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < layout.ranks; ++rank)
    threads.emplace_back([&, rank] {
      TcpRank self{rank, layout.ranks, {}, {}};
      try {
        self.group = host::TcpGroup::connect(tcp_options(layout, rank), store, self.failure,
                                             Deadline::in(std::chrono::seconds(30)));
        body(self);
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = describe_error(error);
      }
    });
  for (auto& thread : threads) thread.join();
  return errors;
}

}  // namespace ddp::testing
