// One rank's shareable memory: a sparse memfd as large as the machine's memory, of which pages exist once
// they are touched, and an allocator for its upper part. Peers map the same memfd, so an offset means the
// same bytes to every rank of the host.
//
// allocate() and free() may be called from any thread. A killed rank leaves nothing behind: the memfd has no name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "libddp/core/fd.h"

namespace ddp::host {

class Arena {
 public:
  /// `reserved` bytes at the start are not handed out by allocate(). Throws Error when the kernel gives no memfd.
  explicit Arena(std::size_t reserved);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] std::byte* base() const { return mapping_.data(); }
  [[nodiscard]] std::size_t size() const { return mapping_.size(); }

  /// Offset of `bytes` zeroed bytes, aligned to 64 (to a page from one page up). Throws Error when nothing
  /// that large is left.
  [[nodiscard]] std::size_t allocate(std::size_t bytes);
  /// Gives them back; whole pages return to the kernel at once.
  void free(std::size_t offset, std::size_t bytes) noexcept;

  /// Where [data, data + bytes) lies in this arena, if it does.
  [[nodiscard]] std::optional<std::size_t> offset_of(const void* data, std::size_t bytes) const;

 private:
  FileDescriptor fd_;
  Mapping mapping_;
  std::mutex mutex_;
  std::map<std::size_t, std::size_t> holes_;  ///< offset -> bytes of free ranges, never adjacent
};

}  // namespace ddp::host
