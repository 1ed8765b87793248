// Where ddprun's own words end and the program's begin.
#include "launcher/option_words.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ddp/error.h>

namespace ddp::launcher {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::ThrowsMessage;

TEST(OptionWords, EndAtTheProgram) {
  const auto words =
      split_words({"ddprun", "--nnodes", "2", "train", "--nnodes", "3", "-h", "--", "--x=y", ""});
  EXPECT_THAT(words.own, ElementsAre(Pair("nnodes", "2")));
  EXPECT_THAT(words.program, ElementsAre("train", "--nnodes", "3", "-h", "--", "--x=y", ""));
}

TEST(OptionWords, EndAtTwoDashes) {
  const auto words = split_words({"ddprun", "--standalone", "--", "--strange-name", "--", "a"});
  EXPECT_THAT(words.own, ElementsAre(Pair("standalone", "1")));
  EXPECT_THAT(words.program, ElementsAre("--strange-name", "--", "a"));
}

TEST(OptionWords, MayHaveUnderscoresAndEqualSigns) {
  const auto words =
      split_words({"ddprun", "--nproc_per_node=2", "--max_restarts", "3", "--run-id=a=b_c", "t"});
  EXPECT_THAT(words.own,
              ElementsAre(Pair("max-restarts", "3"), Pair("nproc-per-node", "2"), Pair("run-id", "a=b_c")));
}

TEST(OptionWords, MayRepeatAndTheLastCounts) {
  EXPECT_THAT(split_words({"ddprun", "--nnodes=2", "--nnodes=3", "t"}).own, ElementsAre(Pair("nnodes", "3")));
}

TEST(OptionWords, MayBeMissing) {
  EXPECT_THAT(split_words({"ddprun"}).program, IsEmpty());
  EXPECT_THAT(split_words({}).program, IsEmpty());
  EXPECT_THAT(split_words({"ddprun", "-"}).program, ElementsAre("-"));
}

TEST(OptionWords, AreRefusedWithTheWordInQuestion) {
  const auto refusal = [](std::vector<std::string> words, const char* part) {
    EXPECT_THAT([&] { (void)split_words(words); }, ThrowsMessage<ConfigError>(HasSubstr(part))) << part;
  };
  refusal({"ddprun", "--nproc", "2", "t"}, "'--nproc'");
  refusal({"ddprun", "-n", "2", "t"}, "'-n'");
  refusal({"ddprun", "--nnodes"}, "--nnodes M");
  refusal({"ddprun", "--log-dir=", "t"}, "--log-dir DIR");
  refusal({"ddprun", "--standalone=1", "t"}, "'--standalone=1'");
}

TEST(Settings, SayWhereTheyCameFrom) {
  const auto words = split_words({"ddprun", "--nnodes=2", "t"});
  const Environment environment(
      {{"PET_NNODES", "3"}, {"PET_ROLE", ""}, {"OTHER", "x"}, {"PET_LOG_DIR", "d"}});
  const Settings settings(words, environment);
  EXPECT_EQ(settings.find("nnodes")->source, "--nnodes");
  EXPECT_EQ(settings.find("nnodes")->value, "2");
  EXPECT_EQ(settings.find("log-dir")->source, "PET_LOG_DIR");
  EXPECT_EQ(settings.find("role", {"OTHER"})->source, "OTHER");
  EXPECT_FALSE(settings.find("role", {"NOTHING"}).has_value());
  EXPECT_FALSE(settings.word("log-dir").has_value());
}

TEST(Settings, ReadFlagsAsKubeflowAndPythonWriteThem) {
  const auto flag = [](const char* value) {
    Environment environment;
    environment.set("PET_STANDALONE", value);
    const OptionWords words;
    return Settings(words, environment).flag("standalone");
  };
  EXPECT_TRUE(flag(""));
  EXPECT_TRUE(flag("1"));
  EXPECT_TRUE(flag("True"));
  EXPECT_FALSE(flag("0"));
  EXPECT_FALSE(flag("false"));
}

}  // namespace
}  // namespace ddp::launcher
