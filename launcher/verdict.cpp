#include "launcher/verdict.h"

#include <charconv>

#include <ddp/error.h>

namespace ddp::launcher {

std::string encode(const Verdict& verdict) {
  return std::to_string(verdict.code) + (verdict.again ? " again " : " end ") + verdict.reason;
}

Verdict decode_verdict(const std::string& text) {
  const auto first = text.find(' ');
  const auto second = first == text.npos ? text.npos : text.find(' ', first + 1);
  const std::string kind = second == text.npos ? "" : text.substr(first + 1, second - first - 1);
  if (kind != "again" && kind != "end")
    throw RendezvousError("the store of this job holds '" + text.substr(0, 80) +
                          "' where the end of an attempt should be: run the same ddprun on every node");
  return {stored_number(text.substr(0, first)), kind == "again", text.substr(second + 1)};
}

int stored_number(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw RendezvousError("the store of this job holds '" + text.substr(0, 40) +
                          "' where a number should be: run the same ddprun on every node");
  return value;
}

}  // namespace ddp::launcher
