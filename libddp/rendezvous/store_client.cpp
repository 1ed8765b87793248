// The client of a StoreServer: requests carry ids, so that one thread's wait does not keep another's set from
// passing. A thread of the client reads the replies and hands each to whoever waits for it.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>

#include <ddp/error.h>
#include <ddp/rendezvous.h>

#include "libddp/rendezvous/connect.h"
#include "libddp/rendezvous/store_wire.h"

namespace ddp {
namespace {

using store_wire::Op;
using store_wire::Reply;
using store_wire::Request;
using store_wire::Status;

class StoreClient final : public Store {
 public:
  StoreClient(StoreEndpoint endpoint, std::unique_ptr<StoreConnection> connection)
      : endpoint_(std::move(endpoint)), connection_(std::move(connection)) {
    reader_ = std::thread([this] { read_replies(); });
  }
  ~StoreClient() override {
    if (connection_->is_forked()) {
      reader_.detach();  // it did not come along
      return;
    }
    connection_->shutdown();  // ends the reader's wait
    reader_.join();
  }

  void set(std::string_view key, std::string_view value, Deadline deadline) override {
    Request request = make(Op::kSet, key);
    request.value = checked_value(key, value);
    (void)call(std::move(request), deadline);
  }
  std::string get(std::string_view key, Deadline deadline) override {
    return call(make(Op::kGet, key), deadline).value;
  }
  std::optional<std::string> try_get(std::string_view key, Deadline deadline) override {
    Reply reply = call(make(Op::kTryGet, key), deadline);
    return reply.status == Status::kMissing ? std::nullopt : std::optional(std::move(reply.value));
  }
  void wait(std::string_view key, Deadline deadline) override { (void)call(make(Op::kWait, key), deadline); }
  std::int64_t add(std::string_view key, std::int64_t delta, Deadline deadline) override {
    Request request = make(Op::kAdd, key);
    request.number = static_cast<std::uint64_t>(delta);
    return static_cast<std::int64_t>(call(std::move(request), deadline).number);
  }
  std::optional<std::string> compare_and_set(std::string_view key, std::optional<std::string_view> expected,
                                             std::string_view desired, Deadline deadline) override {
    Request request = make(Op::kCompareAndSet, key);
    request.value = checked_value(key, desired);
    if (expected) request.expected = checked_value(key, *expected);
    Reply reply = call(std::move(request), deadline);
    return reply.status == Status::kMissing ? std::nullopt : std::optional(std::move(reply.value));
  }
  std::uint64_t append(std::string_view key, std::string_view bytes, Deadline deadline) override {
    Request request = make(Op::kAppend, key);
    request.value = checked_value(key, bytes);
    return call(std::move(request), deadline).number;
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
  static Request make(Op op, std::string_view key) {
    store_wire::check_key(key);
    Request request;
    request.op = op;
    request.key = key;
    return request;
  }

  static std::string checked_value(std::string_view key, std::string_view value) {
    store_wire::check_value(key, value);
    return std::string(value);
  }

  /// Sends and waits for the reply with the same id.
  Reply call(Request request, Deadline deadline) {
    request.id = next_id_.fetch_add(1);
    const std::string what = "'" + request.key + "' in the store at " + endpoint_.describe();
    {
      const std::scoped_lock lock(mutex_);
      check_connected();
      pending_.emplace(request.id, std::nullopt);
    }
    try {
      send(store_wire::encode(request), deadline, what);
    } catch (const TimeoutError&) {
      const std::scoped_lock lock(mutex_);
      pending_.erase(request.id);
      throw;
    }
    std::unique_lock lock(mutex_);
    const auto answered = [&] { return pending_.at(request.id).has_value() || !lost_.empty(); };
    const bool in_time = changed_.wait_until(lock, deadline.at(), answered);
    std::optional<Reply> reply = std::move(pending_.at(request.id));
    pending_.erase(request.id);
    if (!reply) check_connected();
    lock.unlock();
    if (!reply && !in_time) {
      cancel(request.id);
      throw TimeoutError("timed out after " + to_string(deadline.timeout()) + " waiting for " + what);
    }
    if (reply->status == Status::kRefused) throw RendezvousError(what + ": " + reply->value);
    return std::move(*reply);
  }

  void check_connected() const {
    if (!lost_.empty())
      throw RendezvousError("connection to the store at " + endpoint_.describe() + " is lost: " + lost_);
  }

  void cancel(std::uint64_t id) {
    Request request;
    request.op = Op::kCancel;
    request.id = next_id_.fetch_add(1);
    request.number = id;
    try {
      send(store_wire::encode(request), Deadline::in(std::chrono::seconds(1)), "cancelling a wait");
    } catch (const Error&) {
      return;  // the wait's own error says it all
    }
  }

  /// Throws TimeoutError; call() finds out by itself that the connection is lost.
  void send(std::string_view bytes, Deadline deadline, const std::string& what) {
    take_turn(deadline, what);
    try {
      connection_->send(bytes, deadline, what);
    } catch (const TimeoutError&) {
      end_turn();
      throw;
    } catch (const Error& error) {
      lose(error.what());
    }
    end_turn();
  }

  /// Another thread may have a longer deadline, and a long value for a server that does not read.
  void take_turn(Deadline deadline, const std::string& what) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline.at(), [this] { return !sending_; }))
      deadline.check("sending " + what + ", behind another thread's request");
    sending_ = true;
  }

  void end_turn() {
    {
      const std::scoped_lock lock(mutex_);
      sending_ = false;
    }
    changed_.notify_all();
  }

  void lose(const std::string& why) {
    {
      const std::scoped_lock lock(mutex_);
      if (lost_.empty()) lost_ = why;
    }
    connection_->shutdown();
    changed_.notify_all();
  }

  void read_replies() {
    try {
      for (;;) deliver(receive_reply());
    } catch (const std::exception& error) {
      lose(error.what());
    }
  }

  Reply receive_reply() {
    char header_bytes[store_wire::kHeaderBytes];
    connection_->receive(header_bytes, sizeof header_bytes);
    const auto header = store_wire::decode_header({header_bytes, sizeof header_bytes});
    if (!header) throw RendezvousError("the server sent a frame of impossible length");
    std::string body(header->body_bytes, '\0');
    connection_->receive(body.data(), body.size());
    auto reply = store_wire::decode_reply(*header, body);
    if (!reply) throw RendezvousError("the server sent a malformed reply");
    return std::move(*reply);
  }

  void deliver(Reply reply) {
    {
      const std::scoped_lock lock(mutex_);
      const auto pending = pending_.find(reply.id);
      if (pending != pending_.end()) pending->second = std::move(reply);
    }
    changed_.notify_all();
  }

  StoreEndpoint endpoint_;
  std::unique_ptr<StoreConnection> connection_;
  std::atomic<std::uint64_t> next_id_{1};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::uint64_t, std::optional<Reply>> pending_;
  bool sending_ = false;  ///< a thread is
  std::string lost_;      ///< why the connection ended
  std::thread reader_;
};

}  // namespace

std::shared_ptr<Store> connect_store(const StoreEndpoint& endpoint, const StoreClientOptions& options) {
  return std::make_shared<StoreClient>(
      endpoint, connect_to_store(endpoint, options.token, Deadline::in(options.timeout)));
}

}  // namespace ddp
