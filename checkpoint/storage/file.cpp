#include "checkpoint/storage/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <ddp/error.h>

namespace ddp::checkpoint {
namespace {

constexpr std::size_t kLargestCall = std::size_t{1} << 30;  // Linux moves at most 2 GiB - 4 KiB a call

void write_piece(int fd, std::span<const std::byte> piece, const std::filesystem::path& path) {
  while (!piece.empty()) {
    const ssize_t written = ::write(fd, piece.data(), std::min(piece.size(), kLargestCall));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) storage_failed("write", path, errno);
    piece = piece.subspan(static_cast<std::size_t>(written));
  }
}

}  // namespace

void storage_failed(const std::string& doing, const std::filesystem::path& path, int error_number) {
  throw StorageError(errno_message("cannot " + doing + " " + path.string(), error_number) + " (host " +
                     host_name() + ")");
}

FileDescriptor open_for_reading(const std::filesystem::path& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd && errno != ENOENT && errno != ENOTDIR) storage_failed("open", path, errno);
  return fd;
}

void write_pieces(int fd, Pieces pieces, const std::filesystem::path& path) {
  // Small pieces (scalars) are gathered, so that a thousand of them are not a thousand calls.
  constexpr std::size_t kSmall = 64 * 1024;
  std::vector<std::byte> gathered;
  const auto flush = [&] {
    write_piece(fd, gathered, path);
    gathered.clear();
  };
  for (const auto piece : pieces) {
    if (gathered.size() + piece.size() > kSmall) flush();
    if (piece.size() > kSmall)
      write_piece(fd, piece, path);
    else
      gathered.insert(gathered.end(), piece.begin(), piece.end());
  }
  flush();
}

std::size_t read_at(int fd, std::uint64_t offset, std::span<std::byte> into,
                    const std::filesystem::path& path) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got = ::pread(fd, into.data() + done, std::min(into.size() - done, kLargestCall),
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) storage_failed("read", path, errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

void sync_file(int fd, const std::filesystem::path& path) {
  if (::fsync(fd) != 0) storage_failed("flush", path, errno);
}

void close_checked(FileDescriptor& fd, const std::filesystem::path& path) {
  if (::close(fd.release()) != 0) storage_failed("close", path, errno);
}

void sync_folder(const std::filesystem::path& folder) {
  FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) storage_failed("open", folder, errno);
  // Some file systems (FUSE) cannot sync a folder and say so; they have nothing more durable to offer.
  if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != ENOTSUP) storage_failed("flush", folder, errno);
}

}  // namespace ddp::checkpoint
