// A Store in this process's memory, for ranks that are threads.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>

#include <ddp/error.h>
#include <ddp/store.h>

namespace ddp::testing {

class MemoryStore final : public Store {
 public:
  void set(std::string_view key, std::string_view value, Deadline) override {
    const std::scoped_lock lock(mutex_);
    values_[std::string(key)] = value;
    changed_.notify_all();
  }
  std::string get(std::string_view key, Deadline deadline) override {
    std::unique_lock lock(mutex_);
    const auto there = [&] { return values_.contains(std::string(key)); };
    if (!changed_.wait_until(lock, deadline.at(), there)) throw TimeoutError("no key " + std::string(key));
    return values_[std::string(key)];
  }
  std::optional<std::string> try_get(std::string_view key, Deadline) override {
    const std::scoped_lock lock(mutex_);
    const auto found = values_.find(std::string(key));
    return found == values_.end() ? std::nullopt : std::optional(found->second);
  }
  void wait(std::string_view key, Deadline deadline) override { (void)get(key, deadline); }
  std::int64_t add(std::string_view key, std::int64_t delta, Deadline) override {
    const std::scoped_lock lock(mutex_);
    std::string& value = values_[std::string(key)];
    const std::int64_t sum = (value.empty() ? 0 : std::stoll(value)) + delta;
    value = std::to_string(sum);
    changed_.notify_all();
    return sum;
  }
  std::optional<std::string> compare_and_set(std::string_view key, std::optional<std::string_view> expected,
                                             std::string_view desired, Deadline) override {
    const std::scoped_lock lock(mutex_);
    const auto found = values_.find(std::string(key));
    const bool equal = found == values_.end() ? !expected : expected && found->second == *expected;
    if (equal) {
      values_[std::string(key)] = desired;
      changed_.notify_all();
      return std::string(desired);
    }
    return found == values_.end() ? std::nullopt : std::optional(found->second);
  }
  std::uint64_t append(std::string_view key, std::string_view bytes, Deadline) override {
    const std::scoped_lock lock(mutex_);
    std::string& value = values_[std::string(key)];
    value += bytes;
    changed_.notify_all();
    return value.size();
  }
  std::string watch(std::string_view key, std::uint64_t offset, Deadline deadline) override {
    std::unique_lock lock(mutex_);
    const auto longer = [&] { return values_[std::string(key)].size() > offset; };
    if (!changed_.wait_until(lock, deadline.at(), longer))
      throw TimeoutError("no more of " + std::string(key));
    return values_[std::string(key)].substr(offset);
  }
  bool erase(std::string_view key, Deadline) override {
    const std::scoped_lock lock(mutex_);
    return values_.erase(std::string(key)) > 0;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
};

}  // namespace ddp::testing
