// The data behind a store: keys, values and who waits for them. No input or output, no locks: one thread at a
// time. Waits count against the same limit as keys and values, so nobody can fill the memory with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "libddp/rendezvous/store_wire.h"

namespace ddp {

class StoreState {
 public:
  using Answer = std::function<void(const store_wire::Reply&)>;

  explicit StoreState(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  /// Answers now, or, when the request has to wait, as soon as it need not any more. `session` groups the
  /// requests of one client.
  void execute(std::uint64_t session, const store_wire::Request& request, Answer answer);
  /// The client is gone; what it waited for is forgotten.
  void forget(std::uint64_t session);
  [[nodiscard]] std::size_t waiting() const;

 private:
  struct Waiter {
    std::uint64_t session;
    store_wire::Request request;
    Answer answer;
  };
  [[nodiscard]] bool satisfy(const store_wire::Request& request, const Answer& answer) const;
  void wait(std::uint64_t session, const store_wire::Request& request, Answer answer);
  /// Forgets those of the waiters of one key for which `done` holds.
  template <class Done>
  void drop_waiters(std::vector<Waiter>& waiters, Done done);
  /// Likewise of all keys.
  template <class Done>
  void drop_all_waiters(Done done);
  [[nodiscard]] bool fits(const std::string& key, std::size_t new_bytes) const;
  void store(const std::string& key, std::string value);
  void add(const store_wire::Request& request, const Answer& answer);
  void compare_and_set(const store_wire::Request& request, const Answer& answer);
  void append(const store_wire::Request& request, const Answer& answer);
  void erase(const store_wire::Request& request, const Answer& answer);
  void cancel(std::uint64_t session, std::uint64_t id);
  void serve_waiters(const std::string& key);

  std::size_t max_bytes_;
  std::size_t bytes_ = 0;  ///< of keys, values and waits
  std::unordered_map<std::string, std::string> values_;
  std::unordered_map<std::string, std::vector<Waiter>> waiters_;
};

}  // namespace ddp
