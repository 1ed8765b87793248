// A store of one process: the server's data behind a lock.
#include <condition_variable>
#include <mutex>

#include <ddp/error.h>
#include <ddp/rendezvous.h>

#include "libddp/rendezvous/store_state.h"

namespace ddp {
namespace {

using store_wire::Op;
using store_wire::Reply;
using store_wire::Request;
using store_wire::Status;

class MemoryStore final : public Store {
 public:
  void set(std::string_view key, std::string_view value, Deadline deadline) override {
    (void)call(make(Op::kSet, key, value), deadline);
  }
  std::string get(std::string_view key, Deadline deadline) override {
    return call(make(Op::kGet, key), deadline).value;
  }
  std::optional<std::string> try_get(std::string_view key, Deadline deadline) override {
    return optional(call(make(Op::kTryGet, key), deadline));
  }
  void wait(std::string_view key, Deadline deadline) override { (void)call(make(Op::kWait, key), deadline); }
  std::int64_t add(std::string_view key, std::int64_t delta, Deadline deadline) override {
    Request request = make(Op::kAdd, key);
    request.number = static_cast<std::uint64_t>(delta);
    return static_cast<std::int64_t>(call(std::move(request), deadline).number);
  }
  std::optional<std::string> compare_and_set(std::string_view key, std::optional<std::string_view> expected,
                                             std::string_view desired, Deadline deadline) override {
    Request request = make(Op::kCompareAndSet, key, desired);
    if (expected) {
      store_wire::check_value(key, *expected);
      request.expected = *expected;
    }
    return optional(call(std::move(request), deadline));
  }
  std::uint64_t append(std::string_view key, std::string_view bytes, Deadline deadline) override {
    return call(make(Op::kAppend, key, bytes), deadline).number;
  }
  std::string watch(std::string_view key, std::uint64_t offset, Deadline deadline) override {
    Request request = make(Op::kWatch, key);
    request.number = offset;
    return call(std::move(request), deadline).value;
  }
  bool erase(std::string_view key, Deadline deadline) override {
    return call(make(Op::kErase, key), deadline).number != 0;
  }

 private:
  static Request make(Op op, std::string_view key, std::string_view value = {}) {
    store_wire::check_key(key);
    store_wire::check_value(key, value);
    Request request;
    request.op = op;
    request.key = key;
    request.value = value;
    return request;
  }
  static std::optional<std::string> optional(Reply reply) {
    return reply.status == Status::kMissing ? std::nullopt : std::optional(std::move(reply.value));
  }

  /// A call is its own session, so that giving up forgets its wait.
  Reply call(const Request& request, Deadline deadline) {
    std::optional<Reply> reply;
    std::unique_lock lock(mutex_);
    const std::uint64_t session = ++calls_;
    state_.execute(session, request, [&](const Reply& answer) {
      reply = answer;
      changed_.notify_all();
    });
    if (!changed_.wait_until(lock, deadline.at(), [&] { return reply.has_value(); })) {
      state_.forget(session);
      throw TimeoutError("timed out after " + to_string(deadline.timeout()) + " waiting for '" + request.key +
                         "' in the store");
    }
    if (reply->status == Status::kRefused)
      throw RendezvousError("'" + request.key + "' in the store: " + reply->value);
    return std::move(*reply);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  StoreState state_{std::size_t{1} << 30};
  std::uint64_t calls_ = 0;
};

}  // namespace

std::shared_ptr<Store> make_memory_store() {
  return std::make_shared<MemoryStore>();
}

}  // namespace ddp
