#include "libddp/rendezvous/store_wire.h"

#include <utility>

#include <ddp/error.h>

namespace ddp::store_wire {
namespace {

template <class T>
void put_number(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

void put_string(std::string& out, std::string_view text) {
  put_number(out, static_cast<std::uint32_t>(text.size()));
  out += text;
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <class T>
  T number() {
    T value = 0;
    if (!take(sizeof(T))) return value;
    for (std::size_t i = 0; i < sizeof(T); ++i)
      value = static_cast<T>(
          value | static_cast<T>(static_cast<T>(static_cast<unsigned char>(taken_[i])) << (8 * i)));
    return value;
  }
  std::string string(std::size_t limit) {
    const auto length = number<std::uint32_t>();
    if (!good_ || length > limit || !take(length)) {
      good_ = false;
      return {};
    }
    return std::string(taken_);
  }
  /// Everything was there and nothing is left.
  [[nodiscard]] bool complete() const { return good_ && bytes_.empty(); }

 private:
  bool take(std::size_t count) {
    if (!good_ || bytes_.size() < count) return good_ = false;
    taken_ = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return true;
  }
  std::string_view bytes_;
  std::string_view taken_;
  bool good_ = true;
};

/// Whether a request has the parts of its operation and no others: what nobody reads would be memory and
/// time for nothing, and could not be given a meaning later.
bool is_well_formed(const Request& request) {
  const bool cancels = request.op == Op::kCancel;
  const bool takes_value =
      request.op == Op::kSet || request.op == Op::kCompareAndSet || request.op == Op::kAppend;
  const bool takes_number = cancels || request.op == Op::kAdd || request.op == Op::kWatch;
  return request.key.empty() == cancels && (takes_value || request.value.empty()) &&
         (takes_number || request.number == 0) && (request.op == Op::kCompareAndSet || !request.expected);
}

std::string frame(std::uint64_t id, std::uint8_t code, std::string_view body) {
  std::string out;
  out.reserve(kHeaderBytes + body.size());
  put_number(out, static_cast<std::uint32_t>(8 + 1 + body.size()));
  put_number(out, id);
  out.push_back(static_cast<char>(code));
  out += body;
  return out;
}

}  // namespace

std::string encode(const Request& request) {
  std::string body;
  put_string(body, request.key);
  put_string(body, request.value);
  body.push_back(request.expected ? 1 : 0);
  put_string(body, request.expected.value_or(""));
  put_number(body, request.number);
  return frame(request.id, static_cast<std::uint8_t>(request.op), body);
}

std::string encode(const Reply& reply) {
  std::string body;
  put_string(body, reply.value);
  put_number(body, reply.number);
  return frame(reply.id, static_cast<std::uint8_t>(reply.status), body);
}

void check_key(std::string_view key) {
  if (key.empty() || key.size() > kMaxKey)
    throw Error("a store key must have 1 to 1024 bytes, this one has " + std::to_string(key.size()));
}

void check_value(std::string_view key, std::string_view value) {
  if (value.size() > kMaxValue)
    throw Error("a store value may have 16 MiB; '" + std::string(key) + "' would get " +
                std::to_string(value.size()) + " bytes");
}

std::optional<Header> decode_header(std::string_view bytes) {
  Reader reader(bytes);
  const auto length = reader.number<std::uint32_t>();
  const auto id = reader.number<std::uint64_t>();
  const auto code = reader.number<std::uint8_t>();
  if (!reader.complete() || length < 9 || length > 9 + kMaxBody) return std::nullopt;
  return Header{length - 9, id, code};
}

std::optional<Request> decode_request(const Header& header, std::string_view body) {
  if (header.code < static_cast<std::uint8_t>(Op::kSet) ||
      header.code > static_cast<std::uint8_t>(Op::kCancel))
    return std::nullopt;
  Reader reader(body);
  Request request{
      header.id, static_cast<Op>(header.code), reader.string(kMaxKey), reader.string(kMaxValue), {}, 0};
  const auto has_expected = reader.number<std::uint8_t>();
  std::string expected = reader.string(kMaxValue);
  if (has_expected == 0 && !expected.empty()) return std::nullopt;
  if (has_expected == 1) request.expected = std::move(expected);
  request.number = reader.number<std::uint64_t>();
  if (!reader.complete() || has_expected > 1 || !is_well_formed(request)) return std::nullopt;
  return request;
}

std::optional<Reply> decode_reply(const Header& header, std::string_view body) {
  if (header.code > static_cast<std::uint8_t>(Status::kRefused)) return std::nullopt;
  Reader reader(body);
  Reply reply{header.id, static_cast<Status>(header.code), reader.string(kMaxBody), 0};
  reply.number = reader.number<std::uint64_t>();
  if (!reader.complete()) return std::nullopt;
  return reply;
}

}  // namespace ddp::store_wire
