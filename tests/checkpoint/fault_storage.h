// A Storage that fails on purpose: at its n-th operation, before or after the operation has taken effect.
#pragma once

#include <atomic>
#include <memory>
#include <type_traits>

#include <ddp/error.h>

#include "checkpoint/storage/storage.h"

namespace ddp::checkpoint::testing_support {

class FaultStorage final : public Storage {
 public:
  enum class When { kNever, kBefore, kAfter, kAnswerLost };
  explicit FaultStorage(std::shared_ptr<Storage> inner) : inner_(std::move(inner)) {}

  /// Fails once, at operation `n` counted from now (0: the next). kAnswerLost: create() works and says
  /// kUnknown, others work.
  void fail_at(int n, When when) {
    operations_ = 0;
    fail_at_ = n;
    when_ = when;
  }
  [[nodiscard]] int operations() const { return operations_; }

  [[nodiscard]] Created create(std::string_view key, Pieces pieces) override {
    return around(
        key, [&] { return inner_->create(key, pieces); }, [](Created) { return Created::kUnknown; });
  }
  void put(std::string_view key, std::string_view bytes) override {
    around(key, [&] { return inner_->put(key, bytes), 0; });
  }
  [[nodiscard]] std::optional<std::uint64_t> size(std::string_view key) override {
    return around(key, [&] { return inner_->size(key); });
  }
  void read(std::string_view key, std::uint64_t offset, std::span<std::byte> into) override {
    around(key, [&] { return inner_->read(key, offset, into), 0; });
  }
  [[nodiscard]] std::vector<StoredObject> list(std::string_view folder) override {
    return around(folder, [&] { return inner_->list(folder); });
  }
  void remove(std::string_view key) override {
    around(key, [&] { return inner_->remove(key), 0; });
  }
  void remove_all(std::string_view folder) override {
    around(folder, [&] { return inner_->remove_all(folder), 0; });
  }
  void remove_unfinished(std::string_view folder) override {
    around(folder, [&] { return inner_->remove_unfinished(folder), 0; });
  }
  [[nodiscard]] std::string describe() const override { return "faulty " + inner_->describe(); }

 private:
  template <class Work>
  std::invoke_result_t<Work> around(std::string_view key, Work work) {
    return around(key, work, [](auto result) { return result; });
  }
  template <class Work, class Lose>
  std::invoke_result_t<Work> around(std::string_view key, Work work, Lose lose) {
    const bool now = operations_++ == fail_at_ && when_ != When::kNever;
    if (now && when_ == When::kBefore) fail(key);
    auto result = work();
    if (now && when_ == When::kAfter) fail(key);
    return now ? lose(std::move(result)) : result;
  }
  [[noreturn]] static void fail(std::string_view key) {
    throw StorageError("injected failure at " + std::string(key));
  }

  std::shared_ptr<Storage> inner_;
  std::atomic<int> operations_{0};
  int fail_at_ = -1;
  When when_ = When::kNever;
};

}  // namespace ddp::checkpoint::testing_support
