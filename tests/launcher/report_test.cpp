// What a person reads after a failure, and what ddprun returns.
#include "launcher/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>

#include <ddp/error.h>

#include "launcher/verdict.h"

namespace ddp::launcher {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

constexpr int exited(int code) {
  return code << 8;
}
constexpr int killed_by(int signal) {
  return signal;
}
constexpr int kCore = 0x80;

TEST(ExitCode, IsTheWorkersOrThatOfItsSignal) {
  EXPECT_EQ(exit_code(exited(0)), 0);
  EXPECT_EQ(exit_code(exited(3)), 3);
  EXPECT_EQ(exit_code(exited(255)), 255);
  EXPECT_EQ(exit_code(killed_by(SIGKILL)), 137);
  EXPECT_EQ(exit_code(killed_by(SIGSEGV) | kCore), 139);
  EXPECT_EQ(exit_code(killed_by(SIGTERM)), 143);
}

TEST(Report, NamesStatusAndSignal) {
  EXPECT_EQ(describe_status(exited(3)), "exit code 3");
  EXPECT_EQ(describe_status(killed_by(SIGKILL)), "killed by SIGKILL");
  EXPECT_EQ(describe_status(killed_by(SIGABRT) | kCore), "killed by SIGABRT (core dumped)");
  EXPECT_EQ(signal_name(SIGUSR1), "SIGUSR1");
  EXPECT_EQ(signal_name(64), "signal 64");
}

TEST(Report, SaysWhoFailedFirstWhereAndWithWhichWords) {
  const Failure failure{5, 1234, killed_by(SIGSEGV), 12.34, false, {"loading", "what(): no such file"}};
  EXPECT_EQ(describe(failure, "node-7"),
            "ddprun: rank 5 failed first: killed by SIGSEGV (pid 1234, host node-7, 12.3 s after its start)\n"
            "ddprun: last lines of its stderr:\n"
            "ddprun:   loading\n"
            "ddprun:   what(): no such file\n");
}

TEST(Report, MentionsMemoryOnlyWhenTheKernelKilledForIt) {
  Failure failure{0, 1, killed_by(SIGKILL), 1, false, {}};
  EXPECT_THAT(describe(failure, "h"), Not(HasSubstr("memory")));
  EXPECT_THAT(describe(failure, "h"), Not(HasSubstr("stderr")));
  failure.out_of_memory = true;
  EXPECT_THAT(describe(failure, "h"), HasSubstr("memory.events"));
}

TEST(Report, SaysWhatToDoAboutAProgramThatCannotBeStarted) {
  EXPECT_THAT(describe_start_error("train", ENOENT),
              AllOf(HasSubstr("'train'"), HasSubstr("PATH"), HasSubstr("./train")));
  EXPECT_THAT(describe_start_error("/opt/train", ENOENT),
              AllOf(HasSubstr("/opt/train"), HasSubstr("interpreter")));
  EXPECT_THAT(describe_start_error("train.py", EACCES), HasSubstr("python3 train.py"));
  EXPECT_THAT(describe_start_error("./train", EACCES), HasSubstr("chmod +x"));
  EXPECT_THAT(describe_start_error("./train", ENOEXEC), HasSubstr("interpreter"));
  EXPECT_THAT(describe_start_error("/tmp", EISDIR), HasSubstr("directory"));
}

TEST(Verdict, SurvivesItsWayThroughTheStore) {
  for (const Verdict& verdict : {Verdict{0, false, "all workers returned 0"},
                                 Verdict{139, true, "rank 3: x  y "}, Verdict{1, true, ""}}) {
    const Verdict back = decode_verdict(encode(verdict));
    EXPECT_EQ(back.code, verdict.code);
    EXPECT_EQ(back.again, verdict.again);
    EXPECT_EQ(back.reason, verdict.reason);
  }
}

TEST(Verdict, IsRefusedWhenSomethingElseWroteIt) {
  for (const char* text : {"", "1", "1 again", "1 perhaps x", "x again y", " again y"})
    EXPECT_THAT([&] { (void)decode_verdict(text); }, ThrowsMessage<RendezvousError>(HasSubstr("same ddprun")))
        << text;
}

}  // namespace
}  // namespace ddp::launcher
