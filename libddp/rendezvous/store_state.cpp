#include "libddp/rendezvous/store_state.h"

#include <charconv>
#include <utility>

namespace ddp {

using store_wire::Op;
using store_wire::Reply;
using store_wire::Request;
using store_wire::Status;

namespace {

/// What a wait takes besides its key, roughly.
constexpr std::size_t kWaitBytes = 256;

std::size_t wait_bytes(const Request& request) {
  return kWaitBytes + request.key.size();
}

void refuse(const Request& request, const StoreState::Answer& answer, std::string why) {
  answer(Reply{request.id, Status::kRefused, std::move(why), 0});
}

}  // namespace

void StoreState::execute(std::uint64_t session, const Request& request, Answer answer) {
  switch (request.op) {
    case Op::kSet:
      if (!fits(request.key, request.value.size())) return refuse(request, answer, "the store is full");
      store(request.key, request.value);
      answer(Reply{request.id});
      return serve_waiters(request.key);
    case Op::kTryGet:
    case Op::kGet:
    case Op::kWait:
    case Op::kWatch:
      if (satisfy(request, answer)) return;
      if (request.op == Op::kTryGet) return answer(Reply{request.id, Status::kMissing});
      return wait(session, request, std::move(answer));
    case Op::kAdd:
      return add(request, answer);
    case Op::kCompareAndSet:
      return compare_and_set(request, answer);
    case Op::kAppend:
      return append(request, answer);
    case Op::kErase:
      return erase(request, answer);
    case Op::kCancel:
      return cancel(session, request.number);
  }
}

void StoreState::wait(std::uint64_t session, const Request& request, Answer answer) {
  if (bytes_ + wait_bytes(request) > max_bytes_)
    return refuse(request, answer, "the store is full, there is no room for another wait");
  waiters_[request.key].push_back({session, request, std::move(answer)});
  bytes_ += wait_bytes(request);
}

bool StoreState::satisfy(const Request& request, const Answer& answer) const {
  const auto found = values_.find(request.key);
  if (found == values_.end()) return false;
  if (request.op == Op::kWatch) {
    if (found->second.size() <= request.number) return false;
    answer(Reply{request.id, Status::kOk, found->second.substr(request.number), 0});
  } else {
    answer(Reply{request.id, Status::kOk, request.op == Op::kWait ? "" : found->second, 0});
  }
  return true;
}

bool StoreState::fits(const std::string& key, std::size_t new_bytes) const {
  const auto found = values_.find(key);
  const std::size_t old_bytes = found == values_.end() ? 0 : key.size() + found->second.size();
  return bytes_ - old_bytes + key.size() + new_bytes <= max_bytes_;
}

void StoreState::store(const std::string& key, std::string value) {
  const auto [found, inserted] = values_.try_emplace(key);
  bytes_ += inserted ? key.size() : 0;
  bytes_ += value.size() - found->second.size();
  found->second = std::move(value);
}

void StoreState::add(const Request& request, const Answer& answer) {
  std::int64_t value = 0;
  if (const auto found = values_.find(request.key); found != values_.end()) {
    const std::string& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      return refuse(request, answer, "the value of '" + request.key + "' is not a number");
  }
  if (__builtin_add_overflow(value, static_cast<std::int64_t>(request.number), &value))
    return refuse(request, answer, "adding to '" + request.key + "' overflows");
  std::string text = std::to_string(value);
  if (!fits(request.key, text.size())) return refuse(request, answer, "the store is full");
  store(request.key, std::move(text));
  answer(Reply{request.id, Status::kOk, "", static_cast<std::uint64_t>(value)});
  serve_waiters(request.key);
}

void StoreState::compare_and_set(const Request& request, const Answer& answer) {
  const auto found = values_.find(request.key);
  const bool equal = found == values_.end() ? !request.expected : request.expected == found->second;
  if (!equal) {
    if (found == values_.end()) return answer(Reply{request.id, Status::kMissing});
    return answer(Reply{request.id, Status::kOk, found->second, 0});
  }
  if (!fits(request.key, request.value.size())) return refuse(request, answer, "the store is full");
  store(request.key, request.value);
  answer(Reply{request.id, Status::kOk, request.value, 0});
  serve_waiters(request.key);
}

void StoreState::append(const Request& request, const Answer& answer) {
  const auto found = values_.find(request.key);
  const std::size_t size = (found == values_.end() ? 0 : found->second.size()) + request.value.size();
  if (size > store_wire::kMaxValue)
    return refuse(request, answer, "'" + request.key + "' would be longer than 16 MiB");
  if (!fits(request.key, size)) return refuse(request, answer, "the store is full");
  if (found == values_.end()) {
    store(request.key, request.value);
  } else {  // in place: a long log is not copied for every line
    found->second += request.value;
    bytes_ += request.value.size();
  }
  answer(Reply{request.id, Status::kOk, "", size});
  serve_waiters(request.key);
}

void StoreState::erase(const Request& request, const Answer& answer) {
  const auto found = values_.find(request.key);
  const bool existed = found != values_.end();
  if (existed) {
    bytes_ -= request.key.size() + found->second.size();
    values_.erase(found);
  }
  answer(Reply{request.id, Status::kOk, "", existed ? 1u : 0u});
}

template <class Done>
void StoreState::drop_waiters(std::vector<Waiter>& waiters, Done done) {
  std::erase_if(waiters, [&](const Waiter& waiter) {
    if (!done(waiter)) return false;
    bytes_ -= wait_bytes(waiter.request);
    return true;
  });
}

template <class Done>
void StoreState::drop_all_waiters(Done done) {
  for (auto entry = waiters_.begin(); entry != waiters_.end();) {
    drop_waiters(entry->second, done);
    entry = entry->second.empty() ? waiters_.erase(entry) : std::next(entry);
  }
}

void StoreState::cancel(std::uint64_t session, std::uint64_t id) {
  drop_all_waiters([&](const Waiter& w) { return w.session == session && w.request.id == id; });
}

void StoreState::forget(std::uint64_t session) {
  drop_all_waiters([&](const Waiter& w) { return w.session == session; });
}

void StoreState::serve_waiters(const std::string& key) {
  const auto entry = waiters_.find(key);
  if (entry == waiters_.end()) return;
  drop_waiters(entry->second, [this](const Waiter& w) { return satisfy(w.request, w.answer); });
  if (entry->second.empty()) waiters_.erase(entry);
}

std::size_t StoreState::waiting() const {
  std::size_t count = 0;
  for (const auto& [key, waiters] : waiters_) count += waiters.size();
  return count;
}

}  // namespace ddp
