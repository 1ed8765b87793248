// What ranks say to each other over TCP, as bytes. All numbers are little-endian.
//
//   control connection   Frame, then `payload` bytes: an operation (with small data), a failure, a goodbye
//   data connection      Piece, then `bytes` bytes: a part of a large buffer
//
// A frame says what its sender believes the operation to be; the receiver compares it with its own belief
// before it uses any data. Pure; any thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <ddp/communicator.h>

#include "libddp/comm/host/describe.h"

namespace ddp::host::wire {

static_assert(std::endian::native == std::endian::little, "the wire format is the memory format");

inline constexpr std::uint32_t kFrameMagic = 0x46706464;  // "ddpF"
inline constexpr std::uint32_t kPieceMagic = 0x50706464;  // "ddpP"
/// Data up to this size travels inside the frame.
inline constexpr std::size_t kInlineBytes = 16 * 1024;
inline constexpr std::size_t kLongestText = 4096;

enum class FrameType : std::uint8_t { kOperation = 1, kFailure = 2, kGoodbye = 3, kWaiting = 4 };

struct Frame {
  std::uint32_t magic = kFrameMagic;
  FrameType type = FrameType::kOperation;
  std::uint8_t kind = 0;   ///< OpKind; of a failure: ErrorKind
  std::uint8_t dtype = 0;  ///< DType
  std::uint8_t op = 0;     ///< ReduceOp; 0 where nothing is reduced
  std::int32_t root = -1;
  std::int32_t peer = -1;  ///< send, recv: the other rank; kWaiting: who is waited for
  std::uint64_t sequence = 0;
  std::uint64_t count = 0;
  std::uint64_t tag = 0;
  std::uint64_t digest = 0;  ///< hash of what is agreed on beyond this: counts, the ranks of a subset
  std::uint32_t payload = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(Frame) == 56);

struct Piece {
  std::uint32_t magic = kPieceMagic;
  std::uint32_t bytes = 0;
  std::uint64_t index = 0;  ///< counts the pieces of this connection and direction from 0
};
static_assert(sizeof(Piece) == 16);

/// Whether the fields are in range, so that the frame can be compared and printed. Null: fine; else what is wrong.
[[nodiscard]] const char* invalid(const Frame& frame);

[[nodiscard]] Frame frame_of(const Operation& operation, std::uint64_t digest);
[[nodiscard]] std::uint64_t digest_of(std::span<const std::uint64_t> numbers);

/// Nullopt when both mean the same operation; otherwise the message that shows both sides. `mine` and
/// `theirs` are what the ranks sent each other.
[[nodiscard]] std::optional<std::string> disagreement(const Frame& mine, const RankName& me,
                                                      const Frame& theirs, const RankName& them);

}  // namespace ddp::host::wire
