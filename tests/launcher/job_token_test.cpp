#include "launcher/job_token.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include <ddp/error.h>

#include "tests/launcher/temporary_folder.h"

namespace ddp::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

constexpr const char* kToken = "correct horse battery staple";

Options nodes(int count) {
  Options options;
  options.nnodes = count;
  return options;
}

Environment with(const char* name, const std::string& value) {
  Environment environment;
  environment.set(name, value);
  return environment;
}

TEST(JobToken, IsRandomOnOneNode) {
  const std::string one = job_token(nodes(1), {}), other = job_token(nodes(1), {});
  EXPECT_EQ(one.size(), 64u);
  EXPECT_NE(one, other);
}

TEST(JobToken, ComesFromAVariableOrAFile) {
  const testing::TemporaryFolder folder;
  const std::string file = folder.file("token", std::string(kToken) + "\n", false);
  EXPECT_EQ(job_token(nodes(2), with("DDP_JOB_TOKEN", kToken)), kToken);
  EXPECT_EQ(job_token(nodes(2), with("DDP_JOB_TOKEN_FILE", file)), kToken);
}

TEST(JobToken, MustBeGivenForSeveralNodesUnlessTheRiskIsAccepted) {
  EXPECT_THAT(
      [] { (void)job_token(nodes(2), {}); },
      ThrowsMessage<ConfigError>(AllOf(HasSubstr("DDP_JOB_TOKEN_FILE"), HasSubstr("DDP_ALLOW_INSECURE=1"))));
  EXPECT_THROW((void)job_token(nodes(2), with("DDP_ALLOW_INSECURE", "0")), ConfigError);
  EXPECT_EQ(job_token(nodes(2), with("DDP_ALLOW_INSECURE", "1")), "");
}

TEST(JobToken, IsRefusedBeforeAWorkerWouldRefuseIt) {
  EXPECT_THAT([] { (void)job_token(nodes(1), with("DDP_JOB_TOKEN", "short")); },
              ThrowsMessage<ConfigError>(AllOf(HasSubstr("DDP_JOB_TOKEN"), Not(HasSubstr("short")))));
  EXPECT_THAT([] { (void)job_token(nodes(1), with("DDP_JOB_TOKEN_FILE", "/nowhere/token")); },
              ThrowsMessage<ConfigError>(HasSubstr("/nowhere/token")));
}

TEST(JobToken, LiesInAFileThatCanOnlyBeRead) {
  const FileDescriptor file = sealed_token(kToken);
  struct stat status {};
  ASSERT_EQ(::fstat(file.get(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0444u);
  EXPECT_EQ(::write(file.get(), "x", 1), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(file.get(), 0), -1);
  EXPECT_NE(::fcntl(file.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(JobToken, ReadsFromTheStartForEveryReader) {
  const FileDescriptor file = sealed_token(kToken);
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  for (int reader = 0; reader < 2; ++reader)
    EXPECT_EQ(job_token(nodes(2), with("DDP_JOB_TOKEN_FILE", path)), kToken);
}

}  // namespace
}  // namespace ddp::launcher
