#include "libddp/reducer/torchrun_store.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <charconv>
#include <thread>
#include <vector>

#include <ddp/error.h>

namespace ddp {
namespace {

using Bytes = std::vector<std::uint8_t>;
using std::chrono::milliseconds;

Bytes to_bytes(std::string_view text) {
  return {text.begin(), text.end()};
}

std::string to_text(const Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}

class TorchrunStore final : public Store {
 public:
  TorchrunStore(const std::string& host, std::uint16_t port, std::chrono::nanoseconds timeout)
      : endpoint_(host + ":" + std::to_string(port)) {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = false;
    options.waitWorkers = false;
    options.timeout = std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(timeout));
    store_ = call([&] { return c10::make_intrusive<c10d::TCPStore>(host, options); });
  }

  void set(std::string_view key, std::string_view value, Deadline deadline) override {
    deadline.check(what("set", key));
    call([&] { store_->set(std::string(key), to_bytes(value)); });
  }

  std::string get(std::string_view key, Deadline deadline) override {
    wait(key, deadline);
    return call([&] { return to_text(store_->get(std::string(key))); });
  }

  std::optional<std::string> try_get(std::string_view key, Deadline deadline) override {
    deadline.check(what("get", key));
    return call([&]() -> std::optional<std::string> {
      if (!store_->check({std::string(key)})) return std::nullopt;
      return to_text(store_->get(std::string(key)));
    });
  }

  void wait(std::string_view key, Deadline deadline) override {
    poll("wait", key, deadline, [&] { return call([&] { return store_->check({std::string(key)}); }); });
  }

  std::int64_t add(std::string_view key, std::int64_t delta, Deadline deadline) override {
    // The server adds atomically, but answers garbage for a value that is no number and wraps around: look first.
    (void)checked_sum(key, try_get(key, deadline).value_or("0"), delta);
    return call([&] { return store_->add(std::string(key), delta); });
  }

  std::optional<std::string> compare_and_set(std::string_view key, std::optional<std::string_view> expected,
                                             std::string_view desired, Deadline deadline) override {
    const auto current = try_get(key, deadline);
    const bool matches = current.has_value() == expected.has_value() && (!expected || *current == *expected);
    if (!matches) return current;
    // c10d takes an expected "" for "does not exist".
    return call([&] {
      return to_text(store_->compareSet(std::string(key), to_bytes(current.value_or("")), to_bytes(desired)));
    });
  }

  /// The length is read after the (atomic) append: appends of other ranks in between count too.
  std::uint64_t append(std::string_view key, std::string_view bytes, Deadline deadline) override {
    if (!bytes.empty()) call([&] { store_->append(std::string(key), to_bytes(bytes)); });
    return try_get(key, deadline).value_or("").size();
  }

  std::string watch(std::string_view key, std::uint64_t offset, Deadline deadline) override {
    std::string value;
    poll("watch", key, deadline, [&] {
      value = try_get(key, Deadline::never()).value_or("");
      return value.size() > offset;
    });
    return value.substr(offset);
  }

  bool erase(std::string_view key, Deadline deadline) override {
    deadline.check(what("delete", key));
    return call([&] { return store_->deleteKey(std::string(key)); });
  }

 private:
  std::int64_t checked_sum(std::string_view key, const std::string& text, std::int64_t delta) const {
    std::int64_t value = 0, sum = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      throw RendezvousError(what("add", key) + ": the value is not a number");
    if (__builtin_add_overflow(value, delta, &sum))
      throw RendezvousError(what("add", key) + ": the sum overflows");
    return sum;
  }

  template <class Ready>
  void poll(const char* operation, std::string_view key, Deadline deadline, Ready&& ready) const {
    for (milliseconds pause(1); !ready(); pause = std::min(pause * 2, milliseconds(20))) {
      deadline.check(what(operation, key));
      std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(pause, deadline.remaining()));
    }
  }

  std::string what(const char* operation, std::string_view key) const {
    return std::string("store ") + operation + " '" + std::string(key) + "' at torchrun's " + endpoint_;
  }

  template <class F>
  auto call(F&& f) -> decltype(f()) {
    try {
      return f();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& e) {
      throw RendezvousError("torchrun's store at " + endpoint_ + ": " + e.what());
    }
  }

  std::string endpoint_;
  c10::intrusive_ptr<c10d::TCPStore> store_;
};

}  // namespace

std::shared_ptr<Store> connect_torchrun_store(const std::string& host, std::uint16_t port,
                                              std::chrono::nanoseconds timeout) {
  return std::make_shared<TorchrunStore>(host, port, timeout);
}

}  // namespace ddp
