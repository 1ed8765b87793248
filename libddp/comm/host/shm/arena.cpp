#include "libddp/comm/host/shm/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include <ddp/error.h>

namespace ddp::host {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kLine = 64;

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

std::size_t rounded(std::size_t bytes) {
  return round_up(std::max<std::size_t>(bytes, 1), bytes >= kPage ? kPage : kLine);
}

/// As much as the machine has: more could not be filled anyway.
std::size_t arena_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page = ::sysconf(_SC_PAGESIZE);
  const std::size_t memory =
      pages > 0 && page > 0 ? static_cast<std::size_t>(pages) * static_cast<std::size_t>(page) : 1ul << 34;
  return round_up(std::max<std::size_t>(memory, 1ul << 28), 2ul << 20);
}

}  // namespace

Arena::Arena(std::size_t reserved) : fd_(::memfd_create("ddp-arena", MFD_CLOEXEC)) {
  if (!fd_) throw Error(errno_message("cannot create shared memory (memfd_create)", errno));
  const std::size_t bytes = arena_bytes();
  if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0)
    throw Error(errno_message("cannot size shared memory to " + std::to_string(bytes) + " bytes", errno));
  mapping_ = Mapping::shared(fd_.get(), bytes, true,
                             "shared memory of this rank (is its address space limited? see ulimit -v)");
  const std::size_t first = round_up(reserved, kPage);
  holes_.emplace(first, bytes - first);
}

std::size_t Arena::allocate(std::size_t bytes) {
  const std::size_t wanted = rounded(bytes);
  const std::size_t alignment = wanted >= kPage ? kPage : kLine;
  std::size_t offset = 0;
  {
    const std::scoped_lock lock(mutex_);
    auto hole = std::find_if(holes_.begin(), holes_.end(), [&](const auto& candidate) {
      const std::size_t start = round_up(candidate.first, alignment);
      return start + wanted <= candidate.first + candidate.second && start + wanted >= wanted;
    });
    if (bytes > size() || hole == holes_.end())
      throw Error("no " + std::to_string(bytes) +
                  " bytes of shared memory are left in this rank's arena of " + std::to_string(size()) +
                  " bytes (the size of this machine's memory)");
    const auto [begin, length] = *hole;
    offset = round_up(begin, alignment);
    holes_.erase(hole);
    if (offset > begin) holes_.emplace(begin, offset - begin);
    if (const std::size_t end = offset + wanted; end < begin + length)
      holes_.emplace(end, begin + length - end);
  }
  if (wanted < kPage) {
    std::memset(base() + offset, 0, wanted);
  } else {
    ::madvise(base() + offset, wanted, MADV_REMOVE);  // small allocations may have been here before
#ifdef MADV_POPULATE_WRITE
    // Now rather than at the first touch, page by page; where the kernel cannot, the first touch does it.
    ::madvise(base() + offset, wanted, MADV_POPULATE_WRITE);
#endif
  }
  return offset;
}

void Arena::free(std::size_t offset, std::size_t bytes) noexcept {
  std::size_t length = rounded(bytes);
  if (length >= kPage) ::madvise(base() + offset, length, MADV_REMOVE);
  const std::scoped_lock lock(mutex_);
  auto next = holes_.lower_bound(offset);
  if (next != holes_.end() && offset + length == next->first) {
    length += next->second;
    next = holes_.erase(next);
  }
  if (next != holes_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == offset) {
      previous->second += length;
      return;
    }
  }
  holes_.emplace(offset, length);
}

std::optional<std::size_t> Arena::offset_of(const void* data, std::size_t bytes) const {
  const auto* begin = static_cast<const std::byte*>(data);
  if (begin < base() || begin >= base() + size()) return std::nullopt;
  const auto offset = static_cast<std::size_t>(begin - base());
  if (bytes > size() - offset) return std::nullopt;
  return offset;
}

}  // namespace ddp::host
