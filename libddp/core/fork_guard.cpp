#include "libddp/core/fork_guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>

namespace ddp {
namespace {

std::atomic<unsigned> forks{0};  ///< between the first process of this program and this one

}  // namespace

/// All guards of this process. Never destroyed: processes fork until they end.
struct ForkGuardRegistry {
  static ForkGuardRegistry& get() {
    static auto* const registry = new ForkGuardRegistry;
    return *registry;
  }

  ForkGuardRegistry() {
    ::pthread_atfork([] { get().mutex.lock(); }, [] { get().mutex.unlock(); }, [] { get().in_child(); });
  }

  /// Only system calls that signal handlers may make: other threads may have held the heap's lock. Replaced, not closed:
  /// the objects of the parent that own these numbers are here too.
  void in_child() {
    forks.fetch_add(1);
    const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const ForkGuard* guard : guards)
      for (const auto& watched : guard->watched_) {
        struct stat now {};
        if (::fstat(watched.fd, &now) != 0 || now.st_dev != watched.device || now.st_ino != watched.inode)
          continue;
        if (nothing < 0)
          ::close(watched.fd);
        else
          ::dup3(nothing, watched.fd, O_CLOEXEC);
      }
    if (nothing >= 0) ::close(nothing);
    mutex.unlock();
  }

  std::mutex mutex;
  std::vector<const ForkGuard*> guards;
};

ForkGuard::ForkGuard() : ForkGuard(std::vector<int>{}) {}

ForkGuard::ForkGuard(const std::vector<int>& descriptors) {
  auto& registry = ForkGuardRegistry::get();
  const std::lock_guard lock(registry.mutex);
  registry.guards.push_back(this);
  made_in_ = forks.load();
  for (const int fd : descriptors) {
    struct stat info {};
    if (::fstat(fd, &info) == 0) watched_.push_back({fd, info.st_dev, info.st_ino});
  }
}

ForkGuard::~ForkGuard() {
  auto& registry = ForkGuardRegistry::get();
  const std::lock_guard lock(registry.mutex);
  std::erase(registry.guards, this);
}

void ForkGuard::add(int descriptor) {
  struct stat info {};
  if (::fstat(descriptor, &info) != 0) return;
  const std::lock_guard lock(ForkGuardRegistry::get().mutex);
  watched_.push_back({descriptor, info.st_dev, info.st_ino});
}

bool ForkGuard::is_forked() const noexcept {
  return made_in_ != forks.load(std::memory_order_relaxed);
}

}  // namespace ddp
