#include "launcher/node.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace ddp::launcher {
namespace {

TEST(CpuQuota, OfCgroupsV2IsRoundedUpToWholeCpus) {
  EXPECT_EQ(parse_cpu_max("150000 100000\n"), 2);
  EXPECT_EQ(parse_cpu_max("100000 100000"), 1);
  EXPECT_EQ(parse_cpu_max("1000 100000\n"), 1);
  EXPECT_EQ(parse_cpu_max("6400000 100000\n"), 64);
}

TEST(CpuQuota, OfCgroupsV2MayBeMissing) {
  for (const char* text : {"max 100000\n", "", "max", "100000", "x y", "100000 0", "0 100000", "-1 100000"})
    EXPECT_EQ(parse_cpu_max(text), std::nullopt) << text;
}

TEST(CpuQuota, OfCgroupsV1IsRoundedUpToo) {
  EXPECT_EQ(parse_cfs_quota("250000\n", "100000\n"), 3);
  EXPECT_EQ(parse_cfs_quota("-1\n", "100000\n"), std::nullopt);
  EXPECT_EQ(parse_cfs_quota("", ""), std::nullopt);
  EXPECT_EQ(parse_cfs_quota("9223372036854775807", "1"), 2147483647);
}

TEST(MemoryKills, AreReadFromBothKindsOfFile) {
  EXPECT_EQ(parse_oom_kills("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"), 2);
  EXPECT_EQ(parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), 7);
  EXPECT_EQ(parse_oom_kills("low 0\n"), std::nullopt);
  EXPECT_EQ(parse_oom_kills(""), std::nullopt);
}

TEST(UsableCpus, FollowTheAffinityMask) {
  std::thread([] {
    cpu_set_t before;
    ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
      if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
    ASSERT_GE(usable_cpus(), 1);
    ASSERT_LE(usable_cpus(), CPU_COUNT(&before));
    ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(usable_cpus(), 1);
  }).join();
}

}  // namespace
}  // namespace ddp::launcher
