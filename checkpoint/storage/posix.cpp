#include "checkpoint/storage/posix.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include <ddp/deadline.h>
#include <ddp/error.h>

#include "checkpoint/format/sha256.h"
#include "checkpoint/storage/file.h"

namespace ddp::checkpoint {
namespace fs = std::filesystem;
namespace {

// Keys cannot begin with a dot, so temporary files never look like objects.
constexpr const char* kTemporaryPrefix = ".tmp-";

/// How long a folder is made again that others remove at the same time. A removal that is under way and has lost its
/// processor looks as if the folder were there, and nothing could be made in it.
class Persistence {
 public:
  /// Whether to try once more; gives way to others first.
  [[nodiscard]] bool again() {
    if (deadline_.passed()) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    return true;
  }

 private:
  Deadline deadline_ = Deadline::in(std::chrono::milliseconds(500));
};

bool is_temporary(const fs::path& path) {
  return path.filename().native().starts_with(kTemporaryPrefix);
}

/// For every regular file below `folder` (not through symbolic links); nothing when there is no such folder.
template <class Visit>
void for_each_file(const fs::path& folder, Visit visit) {
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error), end;
  if (error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory) return;
  while (!error && at != end) {
    std::error_code gone;  // others may remove files while we look
    if (at->is_regular_file(gone) && !at->is_symlink(gone)) visit(*at);
    at.increment(error);
    if (error == std::errc::no_such_file_or_directory) error.clear();
  }
  if (error) storage_failed("list", folder, error.value());
}

}  // namespace

/// A file under a name nobody else uses; its name vanishes with the object.
class PosixStorage::TemporaryFile {
 public:
  /// Makes the folder, again if somebody removes it before there is a file in it.
  TemporaryFile(PosixStorage& storage, const fs::path& folder)
      : path_(folder / (kTemporaryPrefix + random_hex(16))) {
    for (Persistence persistence; !fd_;) {
      storage.make_folders(folder);
      fd_ = FileDescriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
      if (!fd_ && (errno != ENOENT || !persistence.again())) storage_failed("create", path_, errno);
    }
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { ::unlink(path_.c_str()); }

  void fill(Pieces pieces) {
    write_pieces(fd_.get(), pieces, path_);
    sync_file(fd_.get(), path_);
    close_checked(fd_, path_);
  }
  /// False: the name is taken by another file.
  [[nodiscard]] bool link_to(const fs::path& target) const {
    if (::link(path_.c_str(), target.c_str()) == 0) return true;
    const int error_number = errno;
    struct stat status {};
    if (::stat(path_.c_str(), &status) == 0 && status.st_nlink == 2) return true;
    if (error_number == EEXIST) return false;
    storage_failed("publish " + path_.filename().string() + " as", target, error_number);
  }
  void rename_to(const fs::path& target) const {
    if (::rename(path_.c_str(), target.c_str()) != 0) storage_failed("replace", target, errno);
  }

 private:
  fs::path path_;
  FileDescriptor fd_;
};

PosixStorage::PosixStorage(fs::path root, std::chrono::seconds unfinished_age)
    : root_(fs::absolute(root).lexically_normal()), unfinished_age_(unfinished_age) {
  if (!root_.has_filename())
    root_ = root_.parent_path();  // "runs/demo/": climbing from a file must meet the root
}

fs::path PosixStorage::path_of(std::string_view key) const {
  check_key(key);
  return root_ / key;
}

void PosixStorage::make_folders(const fs::path& folder) {
  // Meanwhile others make these folders too, or remove them because they are empty. Where no folder can be made at all,
  // as in /proc, the errors are the same.
  std::error_code ignored;
  for (Persistence persistence;;) {
    if (::mkdir(folder.c_str(), 0700) == 0) return sync_folder(folder.parent_path());
    const int error_number = errno;
    if (error_number == EEXIST && fs::is_directory(folder, ignored)) return;
    const bool was_removed = error_number == EEXIST && !fs::exists(fs::symlink_status(folder, ignored));
    if ((error_number != ENOENT && !was_removed) || !folder.has_relative_path() || !persistence.again())
      storage_failed("make folder", folder, error_number);
    if (!fs::exists(folder.parent_path(), ignored)) make_folders(folder.parent_path());
  }
}

void PosixStorage::sync_folders(fs::path folder) {
  // A folder on the way may have been made by another rank that has not flushed it yet.
  for (sync_folder(folder); folder != root_; sync_folder(folder)) folder = folder.parent_path();
}

Created PosixStorage::create(std::string_view key, Pieces pieces) {
  const fs::path target = path_of(key);
  {
    TemporaryFile file(*this, target.parent_path());
    file.fill(pieces);
    if (!file.link_to(target)) return Created::kExists;
  }
  sync_folders(target.parent_path());
  return Created::kYes;
}

void PosixStorage::put(std::string_view key, std::string_view bytes) {
  const fs::path target = path_of(key);
  TemporaryFile file(*this, target.parent_path());
  const std::span<const std::byte> piece = std::as_bytes(std::span(bytes));
  file.fill(std::span(&piece, 1));
  file.rename_to(target);
  sync_folders(target.parent_path());
}

std::optional<std::uint64_t> PosixStorage::size(std::string_view key) {
  const fs::path path = path_of(key);
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    if (!S_ISREG(status.st_mode)) throw CorruptCheckpoint(path.string() + " is not a regular file");
    return static_cast<std::uint64_t>(status.st_size);
  }
  if (errno != ENOENT && errno != ENOTDIR) storage_failed("look at", path, errno);
  return std::nullopt;
}

void PosixStorage::read(std::string_view key, std::uint64_t offset, std::span<std::byte> into) {
  const fs::path path = path_of(key);
  const FileDescriptor fd = open_for_reading(path);
  if (!fd) throw CorruptCheckpoint(path.string() + " is missing");
  const std::size_t got = read_at(fd.get(), offset, into, path);
  if (got != into.size())
    throw CorruptCheckpoint(path.string() + " ends at byte " + std::to_string(offset + got) + ", " +
                            std::to_string(offset + into.size()) + " were expected");
}

std::vector<StoredObject> PosixStorage::list(std::string_view folder) {
  std::vector<StoredObject> objects;
  for_each_file(path_of(folder), [&](const fs::directory_entry& entry) {
    std::error_code gone;
    const auto bytes = entry.file_size(gone);
    if (!gone && !is_temporary(entry.path()))
      objects.push_back({entry.path().lexically_relative(root_).generic_string(), bytes});
  });
  return objects;
}

void PosixStorage::remove(std::string_view key) {
  const fs::path path = path_of(key);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR)
    storage_failed("remove", path, errno);
}

void PosixStorage::remove_all(std::string_view folder) {
  const fs::path path = path_of(folder);
  std::error_code error;
  fs::remove_all(path, error);
  if (error) storage_failed("remove", path, error.value());
  // What was the last of its folder takes it along.
  for (fs::path parent = path.parent_path(); parent != root_ && ::rmdir(parent.c_str()) == 0;)
    parent = parent.parent_path();
}

void PosixStorage::remove_unfinished(std::string_view folder) {
  const auto oldest = fs::file_time_type::clock::now() - unfinished_age_;
  std::vector<fs::path> found;
  for_each_file(folder.empty() ? root_ : path_of(folder), [&](const fs::directory_entry& entry) {
    std::error_code gone;
    if (is_temporary(entry.path()) && entry.last_write_time(gone) < oldest && !gone)
      found.push_back(entry.path());
  });
  for (const auto& path : found) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) storage_failed("remove", path, errno);
    // Goes when it is empty; it was nothing but the folder of that writer.
    ::rmdir(path.parent_path().c_str());
  }
}

}  // namespace ddp::checkpoint
