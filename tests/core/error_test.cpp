#include <ddp/error.h>
#include <ddp/exit_code.h>

#include <gtest/gtest.h>

namespace ddp {
namespace {

TEST(Error, KindSurvivesThePathOverAWire) {
  for (int k = 0; k <= 9; ++k) {
    const auto kind = static_cast<ErrorKind>(k);
    try {
      throw_error(kind, "x");
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), kind) << to_string(kind);
    }
  }
}

TEST(Error, EachKindIsCaughtAsItsOwnClass) {
  EXPECT_THROW(throw_error(ErrorKind::kConfig, ""), ConfigError);
  EXPECT_THROW(throw_error(ErrorKind::kFencedOut, ""), FencedOut);
  EXPECT_THROW(throw_error(ErrorKind::kMismatch, ""), MismatchError);
}

TEST(Error, ExitCodesTellWhetherStartingAgainHelps) {
  EXPECT_EQ(exit_code(ConfigError("")), kExitDoNotRestart);
  EXPECT_EQ(exit_code(FencedOut("")), kExitDoNotRestart);
  EXPECT_EQ(exit_code(PeerFailure("")), 1);
  EXPECT_EQ(exit_code(std::runtime_error("")), 1);
}

}  // namespace
}  // namespace ddp
