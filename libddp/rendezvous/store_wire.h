// The store's messages as bytes (docs/store-protocol.md). Pure; any thread.
//
// After the handshake both sides send frames:  u32 length | u64 id | u8 code | body.  Length counts what
// follows it. Integers are little-endian; a string is u32 length and bytes. A request's code is an Op, a
// reply's a Status; the reply has its request's id.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ddp::store_wire {

inline constexpr std::size_t kMaxKey = 1024;
inline constexpr std::size_t kMaxValue = std::size_t{16} << 20;
inline constexpr std::size_t kHeaderBytes = 4 + 8 + 1;
/// Two values at most (compare_and_set), a key and their lengths.
inline constexpr std::size_t kMaxBody = 2 * kMaxValue + kMaxKey + 64;
inline constexpr const char* kPurpose = "store 1";

enum class Op : std::uint8_t {
  kSet = 1,
  kGet,
  kTryGet,
  kWait,
  kAdd,
  kCompareAndSet,
  kAppend,
  kWatch,
  kErase,
  kCancel
};
enum class Status : std::uint8_t { kOk = 0, kMissing = 1, kRefused = 2 };

struct Request {
  std::uint64_t id = 0;
  Op op = Op::kSet;
  std::string key;
  std::string value;                    ///< set, compare_and_set (desired), append
  std::optional<std::string> expected;  ///< compare_and_set
  std::uint64_t number = 0;             ///< add (two's complement), watch (offset), cancel (id)
};

struct Reply {
  std::uint64_t id = 0;
  Status status = Status::kOk;
  std::string value;         ///< bytes, or the reason of a refusal
  std::uint64_t number = 0;  ///< add, append, erase
};

struct Header {
  std::uint32_t body_bytes = 0;
  std::uint64_t id = 0;
  std::uint8_t code = 0;
};

[[nodiscard]] std::string encode(const Request& request);
[[nodiscard]] std::string encode(const Reply& reply);
/// Throw Error that says what is too long.
void check_key(std::string_view key);
void check_value(std::string_view key, std::string_view value);

/// Nullopt when the length is out of range.
[[nodiscard]] std::optional<Header> decode_header(std::string_view bytes);
/// Nullopt for anything that is not exactly one request or reply.
[[nodiscard]] std::optional<Request> decode_request(const Header& header, std::string_view body);
[[nodiscard]] std::optional<Reply> decode_reply(const Header& header, std::string_view body);

}  // namespace ddp::store_wire
