// Collectives between ranks that share memory.
//
// Data moves in one of three ways, chosen alike by all ranks:
//   at once    up to kSmallBytes: everybody copies its input to staging, one synchronisation, everybody combines all
//              inputs itself.
//   resident   all buffers lie in arenas: ranks read each other's buffers in place, no copy.
//   staged     a pipeline of chunks through staging: while chunk k is combined, chunk k + 1 is copied in.
//
// Staging areas alternate between two parities, chunk by chunk and over operations. A rank writes into an
// area only after it passed a synchronisation to which the others came after their last read of that area;
// the comments in the .cpp files say which one.
//
// One thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "libddp/comm/host/shm/layout.h"
#include "libddp/comm/host/shm/local_sync.h"

namespace ddp::host {

class ShmGroup {
 public:
  /// All must outlive it.
  ShmGroup(const LocalMembers& members, const std::vector<RankName>& names, Failure& failure);

  [[nodiscard]] int size() const { return static_cast<int>(members_.ranks.size()); }
  [[nodiscard]] int index() const { return members_.index; }
  [[nodiscard]] LocalSync& sync() { return sync_; }

  /// Any collective (not send and recv) over the ranks of this host, which are all ranks of the communicator.
  /// Throws MismatchError and what LocalSync::wait_all throws.
  void run(const WaitContext& context);

  // --- Parts that hierarchical all-reduce is made of ---
  /// Announces the operation, waits for everybody and compares.
  void begin(const WaitContext& context);
  void synchronise(const WaitContext& context);
  /// This rank's staging area of the present parity, and that of another rank.
  [[nodiscard]] std::byte* staging(int index) const {
    return members_.bases[static_cast<std::size_t>(index)] + staging_offset(parity_);
  }
  /// Where rank `index` said in begin() that its input or output lies, mapped here; null when it is not shared.
  [[nodiscard]] std::byte* shared_input(int index) const {
    return shared_inputs_[static_cast<std::size_t>(index)];
  }
  [[nodiscard]] std::byte* shared_output(int index) const {
    return shared_outputs_[static_cast<std::size_t>(index)];
  }
  /// Goes on to the other area. May be written at once: see above.
  void flip() { parity_ ^= 1u; }

 private:
  void announce(const Operation& operation);
  void check_agreement() const;
  [[nodiscard]] const Announcement& announced(int index) const;
  [[nodiscard]] std::byte* mapped(int index, std::uint64_t offset) const;

  // shm_all_reduce.cpp: all_reduce and reduce
  void all_reduce(const WaitContext& context);
  void all_reduce_small(const WaitContext& context);
  void all_reduce_resident(const WaitContext& context);
  void all_reduce_staged(const WaitContext& context);
  void copy_in(const Operation& operation, std::size_t chunk);
  void reduce_slice(const Operation& operation, std::size_t chunk);
  void copy_out(const Operation& operation, std::size_t chunk, unsigned parity);

  // shm_pull.cpp: the others
  void pull(const WaitContext& context);
  struct Plan;
  void put(const Operation& operation, const Plan& plan, std::size_t round);
  void take(const Operation& operation, const Plan& plan, std::size_t round);
  void take_copies(const Operation& operation, const Plan& plan, std::size_t round);
  void take_reduced(const Operation& operation, const Plan& plan, std::size_t round);
  [[nodiscard]] const std::byte* source_of(const Operation& operation, const Plan& plan, int source,
                                           std::size_t round) const;

  const LocalMembers& members_;
  const std::vector<RankName>& names_;
  LocalSync sync_;
  unsigned parity_ = 0;
  unsigned announced_ = 0;  ///< which of the two announcements belongs to this operation
  // Copied in begin(): two synchronisations later a faster rank may announce the next operation in the same place.
  std::vector<std::byte*> shared_inputs_;
  std::vector<std::byte*> shared_outputs_;
  std::vector<const void*> inputs_;  ///< scratch of the reductions, by index
};

/// The part [begin, end) of `count` elements that index `i` of `n` reduces: equal shares, rounded up to whole
/// cache lines.
struct Slice {
  std::size_t begin = 0;
  std::size_t end = 0;
  [[nodiscard]] std::size_t count() const { return end - begin; }
};
[[nodiscard]] Slice slice_of(std::size_t count, std::size_t element_bytes, int i, int n);

}  // namespace ddp::host
