#include <ddp/log.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ddp/error.h>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

namespace ddp::log {
namespace {
using testing::HasSubstr;

class Log : public testing::Test {
 protected:
  Log() {
    set_sink([this](std::string_view line) { lines_.emplace_back(line); });
  }
  ~Log() override {
    set_sink({});
    set_rank(-1);
    configure({});
  }
  std::vector<std::string> lines_;
};

TEST_F(Log, TextLinesCarryLevelRankHostAndFields) {
  set_rank(3);
  info("store listening", {{"port", 29500}, {"path", "a b"}});
  ASSERT_EQ(lines_.size(), 1U);
  EXPECT_THAT(lines_[0], HasSubstr("INFO rank=3 host="));
  EXPECT_THAT(lines_[0], HasSubstr("msg=\"store listening\" port=29500 path=\"a b\"\n"));
}

TEST_F(Log, JsonLinesParseWhateverTheValues) {
  configure({.format = Format::kJson});
  warn("line\nbreak \"quoted\" \xff", {{"ok", true}, {"ratio", 0.5}, {"nan", std::nan("")}, {"s", "\t"}});
  const auto json = nlohmann::json::parse(lines_.at(0));
  EXPECT_EQ(json["level"], "WARN");
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["ratio"], 0.5);
  EXPECT_TRUE(json["nan"].is_string());
}

TEST_F(Log, LinesBelowTheLevelAreNotWritten) {
  configure({.level = Level::kWarn});
  info("quiet");
  error("loud");
  ASSERT_EQ(lines_.size(), 1U);
}

TEST_F(Log, AMessageWithLineBreaksStaysOneLine) {
  info("a\nb", {{"k", "c\nd"}});
  EXPECT_EQ(std::count(lines_.at(0).begin(), lines_.at(0).end(), '\n'), 1);
}

TEST_F(Log, UnknownWordsInTheEnvironmentAreRefusedWithTheChoices) {
  EXPECT_THROW((void)parse_level("loud"), ConfigError);
  EXPECT_THROW((void)parse_format("xml"), ConfigError);
}

}  // namespace
}  // namespace ddp::log
