#include "libddp/core/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <ddp/error.h>

namespace ddp {
namespace {

TEST(FileDescriptor, ClosesWhenDroppedAndNotWhenMovedFrom) {
  int raw = -1;
  {
    FileDescriptor a(::memfd_create("t", MFD_CLOEXEC));
    raw = a.get();
    FileDescriptor b(std::move(a));
    EXPECT_FALSE(a.valid());  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(::fcntl(raw, F_GETFD) >= 0, true);
  }
  EXPECT_EQ(::fcntl(raw, F_GETFD), -1);
}

TEST(Mapping, TwoMappingsOfOneFileShareItsBytes) {
  FileDescriptor fd(::memfd_create("t", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(fd.get(), 4096), 0);
  Mapping a = Mapping::shared(fd.get(), 4096, true, "a"), b = Mapping::shared(fd.get(), 4096, false, "b");
  a.data()[7] = std::byte{42};
  EXPECT_EQ(b.data()[7], std::byte{42});
}

TEST(Mapping, FailureNamesWhatCouldNotBeMapped) {
  EXPECT_THROW((void)Mapping::shared(-1, 4096, false, "the arena of rank 3"), Error);
}

}  // namespace
}  // namespace ddp
