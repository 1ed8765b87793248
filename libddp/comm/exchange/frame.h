// What ranks say to each other about an operation, as bytes: a Frame, then `payload` bytes of small data or text. All
// numbers are little-endian. (Large data: parts, see exchange.h.)
//
// A frame says what its sender believes the operation to be; the receiver compares it with its own belief
// before it uses any data. Pure; any thread.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <ddp/communicator.h>
#include <ddp/error.h>

#include "libddp/comm/describe.h"

namespace ddp::comm::wire {

static_assert(std::endian::native == std::endian::little, "the wire format is the memory format");

inline constexpr std::uint32_t kFrameMagic = 0x46706464;  // "ddpF"
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

/// Whether the fields are in range, so that the frame can be compared and printed. Null: fine; else what is wrong.
[[nodiscard]] const char* invalid(const Frame& frame);

[[nodiscard]] Frame frame_of(const Operation& operation, std::uint64_t digest);
[[nodiscard]] std::uint64_t digest_of(std::span<const std::uint64_t> numbers);
/// Of what ranks must agree on beyond a frame's own fields: all_gatherv's counts; 0 for other operations.
[[nodiscard]] std::uint64_t digest_of_counts(const Operation& operation);

/// Nullopt when both mean the same operation; otherwise the message that shows both sides. `mine` and
/// `theirs` are what the ranks sent each other.
[[nodiscard]] std::optional<std::string> disagreement(const Frame& mine, const RankName& me,
                                                      const Frame& theirs, const RankName& them);

}  // namespace ddp::comm::wire

namespace ddp::comm {

/// An operation frame that has arrived.
struct Heard {
  wire::Frame frame;
  std::vector<std::byte> payload;
};

/// What is known of whom ranks wait for.
struct Reports {
  int me = 0;
  int size = 1;
  std::function<std::optional<wire::Frame>(int rank)> waiting;  ///< the last frame of type kWaiting
  std::function<RankName(int rank)> name;
};
/// ", which waits for rank 4 (...)": whom `rank` waits for in `operation`, and so on to the one that waits for nobody;
/// empty when `rank` has not told.
[[nodiscard]] std::string follow_reports(const wire::Frame& operation, int rank, const Reports& reports);

/// A failure that a peer told.
struct ToldFailure {
  ErrorKind kind = ErrorKind::kError;
  std::string text;
};

}  // namespace ddp::comm
