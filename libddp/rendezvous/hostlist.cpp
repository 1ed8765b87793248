#include "libddp/rendezvous/hostlist.h"

#include <charconv>

#include <ddp/error.h>

#include "libddp/rendezvous/env_reader.h"

namespace ddp {
namespace {

constexpr std::size_t kMostHosts = 65536;

class HostList {
 public:
  HostList(std::string_view name, std::string_view list) : name_(name), list_(list) {}

  std::vector<std::string> expand() {
    std::size_t begin = 0, depth = 0;
    for (std::size_t i = 0; i <= list_.size(); ++i) {
      const char c = i < list_.size() ? list_[i] : ',';
      if (c == '[') ++depth;
      if (c == ']' && depth-- == 0) fail("has an unopened bracket");
      if (depth > 1) fail("nests brackets");
      if (c != ',' || (depth != 0 && i < list_.size())) continue;
      if (depth != 0) fail("has an unclosed bracket");
      if (begin == i) fail("has an empty name");
      product("", list_.substr(begin, i - begin));
      begin = i + 1;
    }
    return std::move(hosts_);
  }

 private:
  /// Every host of `rest` with `done` in front: the first bracket is expanded, the others by recursion.
  void product(const std::string& done, std::string_view rest) {
    const auto open = rest.find('[');
    if (open == std::string_view::npos) {
      if (hosts_.size() == kMostHosts) fail("names more than " + std::to_string(kMostHosts) + " hosts");
      hosts_.push_back(done + std::string(rest));
      return;
    }
    const auto close = rest.find(']', open);
    std::string_view ranges = rest.substr(open + 1, close - open - 1);
    if (ranges.empty()) fail("has an empty bracket");
    while (!ranges.empty()) {
      const auto comma = ranges.find(',');
      range(done + std::string(rest.substr(0, open)), ranges.substr(0, comma), rest.substr(close + 1));
      ranges = comma == std::string_view::npos ? "" : ranges.substr(comma + 1);
    }
  }

  void range(const std::string& done, std::string_view text, std::string_view rest) {
    const auto dash = text.find('-');
    const std::string_view low_text = text.substr(0, dash);
    const long low = number(low_text), high = dash == text.npos ? low : number(text.substr(dash + 1));
    if (high < low) fail("has a range that runs backwards");
    for (long i = low; i <= high; ++i) {
      std::string digits = std::to_string(i);
      if (digits.size() < low_text.size()) digits.insert(0, low_text.size() - digits.size(), '0');
      product(done + digits, rest);
    }
  }

  long number(std::string_view text) const {
    long value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || text.empty() || value < 0 ||
        text.size() > 9)
      fail("has a range that is not a number");
    return value;
  }

  [[noreturn]] void fail(const std::string& why) const { throw ConfigError(shown(name_, list_) + " " + why); }

  std::string_view name_, list_;
  std::vector<std::string> hosts_;
};

int positive(std::string_view name, std::string_view list, std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1)
    throw ConfigError(shown(name, list) + " is not a list of task counts like 4(x2),3");
  return value;
}

}  // namespace

std::vector<std::string> expand_hostlist(std::string_view name, std::string_view list) {
  return HostList(name, list).expand();
}

std::vector<int> expand_tasks_per_node(std::string_view name, std::string_view list) {
  std::vector<int> tasks;
  for (std::string_view rest = list;;) {
    const auto comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    int repeat = 1;
    if (const auto times = item.find("(x"); times != item.npos && item.ends_with(')')) {
      repeat = positive(name, list, item.substr(times + 2, item.size() - times - 3));
      item = item.substr(0, times);
    }
    const int count = positive(name, list, item);
    if (static_cast<std::size_t>(repeat) > kMostHosts - tasks.size())
      throw ConfigError(shown(name, list) + " names more than " + std::to_string(kMostHosts) + " hosts");
    tasks.insert(tasks.end(), static_cast<std::size_t>(repeat), count);
    if (comma == rest.npos) return tasks;
    rest = rest.substr(comma + 1);
  }
}

}  // namespace ddp
