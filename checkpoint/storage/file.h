// System calls on files with errors as StorageError: "cannot write /runs/demo/x: No space left on device (host n7)".
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "checkpoint/storage/storage.h"
#include "libddp/core/fd.h"

namespace ddp::checkpoint {

/// Throws StorageError: "cannot `doing` `path`: <error_number's text> (host)".
[[noreturn]] void storage_failed(const std::string& doing, const std::filesystem::path& path,
                                 int error_number);

/// Opens for reading; an invalid descriptor when there is no such file.
[[nodiscard]] FileDescriptor open_for_reading(const std::filesystem::path& path);
void write_pieces(int fd, Pieces pieces, const std::filesystem::path& path);
/// Reads up to into.size() bytes from `offset`; fewer only at the end of the file.
[[nodiscard]] std::size_t read_at(int fd, std::uint64_t offset, std::span<std::byte> into,
                                  const std::filesystem::path& path);
void sync_file(int fd, const std::filesystem::path& path);
/// The close that reports: a network file system may tell of a failed write only here.
void close_checked(FileDescriptor& fd, const std::filesystem::path& path);
void sync_folder(const std::filesystem::path& folder);

}  // namespace ddp::checkpoint
