// Scratch that parts are received into, one pool a stream. Kept by the group from one operation to the next,
// so that its pages are there.
//
// One thread.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace ddp::host {

class Slots {
 public:
  /// `per_stream` slots of `bytes` each for every stream; whatever was handed out before is forgotten.
  void prepare(int streams, std::size_t per_stream, std::size_t bytes) {
    const std::size_t slot = (bytes + 63) / 64 * 64;
    const std::size_t needed = slot * per_stream * static_cast<std::size_t>(streams);
    if (needed > size_) {
      memory_.reset();
      memory_.reset(new std::byte[needed]);  // not make_unique: that would write zeros
      size_ = needed;
    }
    free_.assign(static_cast<std::size_t>(streams), {});
    std::byte* at = memory_.get();
    for (auto& of_stream : free_)
      for (std::size_t i = 0; i < per_stream; ++i, at += slot) of_stream.push_back(at);
  }
  /// Null when all are in use. The one given back last comes first: it is still in the cache.
  [[nodiscard]] std::byte* take(int stream) {
    auto& of_stream = free_[static_cast<std::size_t>(stream)];
    if (of_stream.empty()) return nullptr;
    std::byte* slot = of_stream.back();
    of_stream.pop_back();
    return slot;
  }
  void give_back(int stream, std::byte* slot) { free_[static_cast<std::size_t>(stream)].push_back(slot); }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_ = 0;
  std::vector<std::vector<std::byte*>> free_;
};

}  // namespace ddp::host
