// The ranks of a job as libraries that never communicate in bulk see them: who am I, how many are we,
// exchange a few bytes. The checkpoint library knows ranks only through this interface; ddp::Context is one,
// and so is a single process.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <ddp/deadline.h>

namespace ddp {

class Group {
 public:
  Group() = default;
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  virtual ~Group() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// Every rank gives its bytes and gets everybody's, in rank order. Called by all ranks in the same order;
  /// one thread a rank. Throws TimeoutError naming the ranks that did not come.
  [[nodiscard]] virtual std::vector<std::string> exchange(std::string_view bytes, Deadline deadline) = 0;
};

/// Rank 0 of 1.
class SingleGroup final : public Group {
 public:
  [[nodiscard]] int rank() const override { return 0; }
  [[nodiscard]] int size() const override { return 1; }
  [[nodiscard]] std::vector<std::string> exchange(std::string_view bytes, Deadline /*deadline*/) override {
    return {std::string(bytes)};
  }
};

}  // namespace ddp
