#include <ddp/deadline.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ddp/error.h>

namespace ddp {
namespace {
using namespace std::chrono_literals;

TEST(Deadline, PassesAfterItsTimeout) {
  EXPECT_TRUE(Deadline::in(-1s).passed());
  EXPECT_FALSE(Deadline::in(1h).passed());
  EXPECT_EQ(Deadline::in(-1s).remaining(), 0ns);
}

TEST(Deadline, HugeTimeoutsAreCappedNotWrapped) {
  EXPECT_FALSE(Deadline::in(std::chrono::nanoseconds::max()).passed());
  EXPECT_EQ(Deadline::never().remaining_ms(5000), 5000);
}

TEST(Deadline, RemainingMillisecondsRoundUpSoThatPollNeverSpins) {
  EXPECT_GE(Deadline::in(100us).remaining_ms(), 1);
}

TEST(Deadline, CheckNamesWhatWasAwaitedAndTheTimeout) {
  try {
    Deadline::in(-1s).min(Deadline::never()).check("rank 3's address");
    FAIL() << "no exception";
  } catch (const TimeoutError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("rank 3's address"));
  }
}

TEST(Deadline, DurationsReadAsPeopleWriteThem) {
  EXPECT_EQ(to_string(std::chrono::nanoseconds(20ms)), "20 ms");
  EXPECT_EQ(to_string(std::chrono::nanoseconds(1500ms)), "1.5 s");
  EXPECT_EQ(to_string(std::chrono::nanoseconds(10min)), "10 min");
}

}  // namespace
}  // namespace ddp
