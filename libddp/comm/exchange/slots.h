// Scratch that parts are received into, in pieces of one size. Kept by the group from one operation to the
// next, so that its pages are there; grows when an operation needs more (a rank whose next neighbour is slow
// holds what it could not pass on, at most the size of the buffer).
//
// One thread.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "libddp/comm/exchange/exchange.h"

namespace ddp::comm {

class Slots {
 public:
  static constexpr std::size_t kBytes = Cut::kLargestChunk;

  /// The one given back last comes first: it is still in the cache.
  [[nodiscard]] std::byte* take() {
    if (free_.empty()) {
      all_.emplace_back(new std::byte[kBytes]);  // not make_unique: that would write zeros
      return all_.back().get();
    }
    std::byte* slot = free_.back();
    free_.pop_back();
    return slot;
  }
  void give_back(std::byte* slot) { free_.push_back(slot); }
  [[nodiscard]] std::size_t taken() const { return all_.size() - free_.size(); }
  /// Before an operation: all are free again. Gives memory beyond 16 MiB back.
  void trim() {
    constexpr std::size_t kKept = (16u << 20) / kBytes;
    if (all_.size() > kKept) all_.resize(kKept);
    free_.clear();
    for (const auto& slot : all_) free_.push_back(slot.get());
  }

 private:
  std::vector<std::unique_ptr<std::byte[]>> all_;
  std::vector<std::byte*> free_;
};

}  // namespace ddp::comm
