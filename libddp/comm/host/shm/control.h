// The control segment that the ranks of one host share: where each of them has come to, what it was called
// with, and the first failure.
//
// Lives in a memfd that every rank maps; nothing in it is a pointer. Each part has one writer (its rank),
// except the failure record, which belongs to whoever claims it first.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ddp::host {

inline constexpr std::uint64_t kControlMagic = 0x31304c5443504444;  // "DDPCTL01"
inline constexpr std::size_t kFailureTextBytes = 4000;
/// An offset that says "this memory is mine alone".
inline constexpr std::uint64_t kNotShared = ~std::uint64_t{0};

/// What a rank says about the collective it has come to. Two of them are kept, because a fast rank may
/// announce the next collective while a slow one still reads this one.
struct Announcement {
  std::uint64_t sequence = 0;
  std::uint64_t count = 0;
  std::uint64_t tag = 0;
  std::uint64_t counts_hash = 0;      ///< all_gatherv: of the counts of all ranks
  std::uint64_t input = kNotShared;   ///< offset of the input in its rank's arena
  std::uint64_t output = kNotShared;  ///< likewise of the output
  std::int32_t root = -1;
  std::uint8_t kind = 0;
  std::uint8_t dtype = 0;
  std::uint8_t op = 0;
};

struct alignas(64) RankControl {
  /// How many synchronisations this rank has come to; the futex that others wait on. Wraps.
  std::atomic<std::uint32_t> arrived{0};
  /// Ranks that sleep on `arrived`.
  std::atomic<std::uint32_t> sleepers{0};
  /// Set when the rank closes its communicator in good order.
  std::atomic<std::uint32_t> closed{0};
  alignas(64) Announcement announcements[2];
};

struct FailureRecord {
  enum State : std::uint32_t { kNone, kWriting, kSet };
  std::atomic<std::uint32_t> state{kNone};
  std::int32_t kind = 0;
  char text[kFailureTextBytes] = {};
};

struct Control {
  std::uint64_t magic = kControlMagic;
  std::uint64_t nonce = 0;
  FailureRecord failure;
  // followed by one RankControl for every rank of the host

  [[nodiscard]] RankControl& rank(int index) {
    auto* bytes = reinterpret_cast<std::byte*>(this) + header_bytes();
    return reinterpret_cast<RankControl*>(bytes)[index];
  }
  [[nodiscard]] static constexpr std::size_t header_bytes() { return (sizeof(Control) + 63) / 64 * 64; }
  [[nodiscard]] static constexpr std::size_t bytes(int ranks) {
    return header_bytes() + static_cast<std::size_t>(ranks) * sizeof(RankControl);
  }
};

static_assert(std::atomic<std::uint32_t>::is_always_lock_free,
              "atomics in shared memory must not need a lock");

}  // namespace ddp::host
