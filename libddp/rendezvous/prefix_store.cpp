#include <ddp/store.h>

#include <utility>

namespace ddp {
namespace {

class PrefixStore final : public Store {
 public:
  PrefixStore(std::string prefix, std::shared_ptr<Store> store)
      : prefix_(std::move(prefix)), store_(std::move(store)) {}

  void set(std::string_view key, std::string_view value, Deadline deadline) override {
    store_->set(full(key), value, deadline);
  }
  std::string get(std::string_view key, Deadline deadline) override {
    return store_->get(full(key), deadline);
  }
  std::optional<std::string> try_get(std::string_view key, Deadline deadline) override {
    return store_->try_get(full(key), deadline);
  }
  void wait(std::string_view key, Deadline deadline) override { store_->wait(full(key), deadline); }
  std::int64_t add(std::string_view key, std::int64_t delta, Deadline deadline) override {
    return store_->add(full(key), delta, deadline);
  }
  std::optional<std::string> compare_and_set(std::string_view key, std::optional<std::string_view> expected,
                                             std::string_view desired, Deadline deadline) override {
    return store_->compare_and_set(full(key), expected, desired, deadline);
  }
  std::uint64_t append(std::string_view key, std::string_view bytes, Deadline deadline) override {
    return store_->append(full(key), bytes, deadline);
  }
  std::string watch(std::string_view key, std::uint64_t offset, Deadline deadline) override {
    return store_->watch(full(key), offset, deadline);
  }
  bool erase(std::string_view key, Deadline deadline) override { return store_->erase(full(key), deadline); }

 private:
  [[nodiscard]] std::string full(std::string_view key) const { return prefix_ + std::string(key); }
  std::string prefix_;
  std::shared_ptr<Store> store_;
};

}  // namespace

std::shared_ptr<Store> make_prefix_store(std::string prefix, std::shared_ptr<Store> store) {
  return std::make_shared<PrefixStore>(std::move(prefix), std::move(store));
}

}  // namespace ddp
