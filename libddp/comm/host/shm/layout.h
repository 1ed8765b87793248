// What lies where in every rank's arena: two staging areas, then one lane for each destination of send, then
// what allocate() hands out.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ddp::host {

/// Bytes a rank shows to the others at a time, of memory that they cannot see. Two areas alternate (shm_group.h).
inline constexpr std::size_t kStagingBytes = std::size_t{8} << 20;

inline constexpr std::uint32_t kLaneSlots = 4;
inline constexpr std::size_t kLaneSlotBytes = std::size_t{128} << 10;

/// Head and tail of a lane: `head` pieces were written, `tail` were read. Both wrap.
struct LaneControl {
  alignas(64) std::atomic<std::uint32_t> head;
  std::atomic<std::uint32_t> head_sleepers;
  alignas(64) std::atomic<std::uint32_t> tail;
  std::atomic<std::uint32_t> tail_sleepers;
  struct alignas(64) Piece {
    std::uint64_t sequence;
    std::uint64_t count;  ///< elements of the whole message
    std::uint64_t tag;
    std::uint64_t bytes;  ///< of this piece
    std::uint8_t dtype;
  } pieces[kLaneSlots];
};

inline constexpr std::size_t kLaneBytes = 4096 + kLaneSlots * kLaneSlotBytes;
static_assert(sizeof(LaneControl) <= 4096);

[[nodiscard]] constexpr std::size_t staging_offset(unsigned parity) {
  return parity * kStagingBytes;
}
[[nodiscard]] constexpr std::size_t lane_offset(int destination_rank) {
  return 2 * kStagingBytes + static_cast<std::size_t>(destination_rank) * kLaneBytes;
}
/// Bytes at the start of an arena that allocate() does not hand out.
[[nodiscard]] constexpr std::size_t reserved_bytes(int world_size) {
  return lane_offset(world_size);
}

}  // namespace ddp::host
