#include "launcher/find_program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>

#include "libddp/core/fd.h"
#include "tests/launcher/temporary_folder.h"

namespace ddp::launcher {
namespace {

class FindProgram : public ::testing::Test {
 protected:
  void make(const std::string& name, mode_t mode) {
    const FileDescriptor file(::open((folder_.path() + "/" + name).c_str(), O_CREAT | O_WRONLY, 0600));
    ASSERT_EQ(::fchmod(file.get(), mode), 0);
  }
  void SetUp() override {
    ASSERT_EQ(::mkdir((folder_.path() + "/one").c_str(), 0700), 0);
    ASSERT_EQ(::mkdir((folder_.path() + "/two").c_str(), 0700), 0);
    ASSERT_EQ(::mkdir((folder_.path() + "/one/folder").c_str(), 0700), 0);
    make("one/data", 0600);
    make("two/data", 0700);
    make("two/program", 0700);
    make("one/only-data", 0600);
  }
  testing::TemporaryFolder folder_;
  std::string path_ = folder_.path() + "/one:" + folder_.path() + "/two";
};

TEST_F(FindProgram, LooksThroughPathForSomethingExecutable) {
  EXPECT_EQ(find_program("program", path_).file, folder_.path() + "/two/program");
  EXPECT_EQ(find_program("data", path_).file, folder_.path() + "/two/data");
}

TEST_F(FindProgram, SaysWhyThereIsNone) {
  EXPECT_EQ(find_program("nothing", path_).error, ENOENT);
  EXPECT_EQ(find_program("only-data", path_).error, EACCES);
  EXPECT_EQ(find_program("folder", path_).error, ENOENT);
  EXPECT_EQ(find_program("program", "").error, ENOENT);
}

TEST_F(FindProgram, TakesANameWithASlashAsItIs) {
  EXPECT_EQ(find_program(folder_.path() + "/two/program", "").file, folder_.path() + "/two/program");
  EXPECT_EQ(find_program(folder_.path() + "/one/folder", path_).error, EISDIR);
  EXPECT_EQ(find_program(folder_.path() + "/one/data", path_).error, EACCES);
  EXPECT_EQ(find_program(folder_.path() + "/one/data/x", path_).error, ENOENT);
  EXPECT_EQ(find_program("./two/program", path_).error, ENOENT);
}

}  // namespace
}  // namespace ddp::launcher
