// What a forked child inherits without wanting it: connections and locks by which others judge whether its parent lives,
// and objects whose threads did not come along.
//
//   ForkGuard guard_{socket_.get()};          // in every child of fork() the descriptor is replaced by /dev/null
//   if (guard_.is_forked()) reader_.detach(); // in a destructor: this is a child, there is no thread to join
//
// Only fork() counts: vfork(), posix_spawn() and system() lead to exec, which closes the descriptors (close-on-exec).
// Any thread.
#pragma once

#include <sys/types.h>

#include <initializer_list>
#include <vector>

namespace ddp {

class ForkGuard {
 public:
  ForkGuard();
  /// The descriptors may be closed before this object ends: a number that means another file by then is left alone.
  explicit ForkGuard(const std::vector<int>& descriptors);
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;
  ~ForkGuard();

  void add(int descriptor);
  /// Whether this object was made by a process that this one was forked from.
  [[nodiscard]] bool is_forked() const noexcept;

  struct Watched {
    int fd;
    dev_t device;
    ino_t inode;
  };

 private:
  friend struct ForkGuardRegistry;
  unsigned made_in_;
  std::vector<Watched> watched_;
};

}  // namespace ddp
