// A small key-value store that the ranks of one job share while they find each other and vote.
//
//   std::shared_ptr<ddp::Store> store = ddp::connect_store({"node-1", 29500}, {.token = token});
//   store->set("ranks/3/address", "10.0.0.7:4100", deadline);
//   std::string peer = store->get("ranks/2/address", deadline);  // waits until somebody sets it
//
// All calls may come from any thread. Keys have 1 byte to 1 KiB, values at most 16 MiB of arbitrary bytes; a client
// refuses others with Error. Every call throws TimeoutError at its deadline (naming key and endpoint) and
// RendezvousError when the connection is lost for good or the server refuses. docs/store-protocol.md specifies the
// bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <ddp/deadline.h>

namespace ddp {

class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;

  /// Makes or replaces the value, and wakes those who wait for the key.
  virtual void set(std::string_view key, std::string_view value, Deadline deadline) = 0;
  /// Waits until the key exists, then returns its value.
  [[nodiscard]] virtual std::string get(std::string_view key, Deadline deadline) = 0;
  /// The value if the key exists now.
  [[nodiscard]] virtual std::optional<std::string> try_get(std::string_view key, Deadline deadline) = 0;
  /// Waits until the key exists.
  virtual void wait(std::string_view key, Deadline deadline) = 0;
  /// Adds to a decimal counter (a missing key counts as 0) and returns the new value. Throws RendezvousError
  /// when the value is not a number or the sum overflows.
  virtual std::int64_t add(std::string_view key, std::int64_t delta, Deadline deadline) = 0;
  /// Sets `desired` if the current value equals `expected`; an `expected` of nullopt means "the key does not
  /// exist". Returns the value that is stored afterwards (nullopt: still none).
  virtual std::optional<std::string> compare_and_set(std::string_view key,
                                                     std::optional<std::string_view> expected,
                                                     std::string_view desired, Deadline deadline) = 0;
  /// Appends to a byte string (created empty) and returns its new length in bytes.
  virtual std::uint64_t append(std::string_view key, std::string_view bytes, Deadline deadline) = 0;
  /// Waits until the byte string is longer than `offset`, then returns what lies behind `offset`.
  [[nodiscard]] virtual std::string watch(std::string_view key, std::uint64_t offset, Deadline deadline) = 0;
  /// Removes the key; returns whether it existed.
  virtual bool erase(std::string_view key, Deadline deadline) = 0;
};

/// A view of `store` in which every key gets `prefix` in front: one per restart attempt, one per communicator.
[[nodiscard]] std::shared_ptr<Store> make_prefix_store(std::string prefix, std::shared_ptr<Store> store);

}  // namespace ddp
