#include "launcher/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ddp::launcher {
namespace {

using ::testing::ElementsAre;

TEST(LauncherEnvironment, ReadsWhatMainGets) {
  const char* envp[] = {"B=2", "A=x=y", "EMPTY=", "no equal sign", "=odd", nullptr};
  const Environment environment = Environment::from_envp(envp);
  EXPECT_THAT(environment.strings(), ElementsAre("A=x=y", "B=2", "EMPTY="));
  EXPECT_EQ(environment.get("EMPTY"), "");
  EXPECT_EQ(environment.get("MISSING"), std::nullopt);
}

TEST(LauncherEnvironment, Changes) {
  Environment environment({{"A", "1"}, {"B", "2"}});
  environment.set("A", "3");
  environment.unset("B");
  environment.unset("C");
  EXPECT_THAT(environment.strings(), ElementsAre("A=3"));
}

}  // namespace
}  // namespace ddp::launcher
