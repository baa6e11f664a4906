#include "daemon/host/memory_limits.h"

#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace weightd::host {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(Meminfo, FieldsAreKibibytes) {
  const char* const text = "MemTotal:       24684092 kB\nMemAvailable:   24111040 kB\n";
  EXPECT_EQ(ParseMeminfo(text, "MemAvailable").value(), uint64_t{24111040} * 1024);
  EXPECT_EQ(ParseMeminfo(text, "MemTotal").value(), uint64_t{24684092} * 1024);
  EXPECT_FALSE(ParseMeminfo(text, "Mem").ok());
  EXPECT_FALSE(ParseMeminfo("MemTotal: lots kB\n", "MemTotal").ok());
  EXPECT_FALSE(ParseMeminfo("", "MemTotal").ok());
}

TEST(MemoryCgroups, V2HasTheProcessesFolderAndItsAncestors) {
  EXPECT_EQ(MemoryCgroups("0::/kubepods/pod1/c1\n",
                          "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"),
            (std::vector<CgroupFolder>{{CgroupVersion::kV2, "/sys/fs/cgroup/kubepods/pod1/c1"},
                                       {CgroupVersion::kV2, "/sys/fs/cgroup/kubepods/pod1"},
                                       {CgroupVersion::kV2, "/sys/fs/cgroup/kubepods"},
                                       {CgroupVersion::kV2, "/sys/fs/cgroup"}}));
}

TEST(MemoryCgroups, V1IsTheHierarchyWithTheMemoryController) {
  EXPECT_EQ(MemoryCgroups("9:name=systemd:/\n4:memory:/a\n1:cpu,cpuacct:/b\n",
                          "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
                          "32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
            (std::vector<CgroupFolder>{{CgroupVersion::kV1, "/sys/fs/cgroup/memory/a"},
                                       {CgroupVersion::kV1, "/sys/fs/cgroup/memory"}}));
}

TEST(MemoryCgroups, HybridHasBoth) {
  const auto folders = MemoryCgroups("4:memory:/a\n0::/\n",
                                     "32 24 0:28 / /cg/memory rw - cgroup cgroup rw,memory\n"
                                     "33 24 0:29 / /cg/unified rw - cgroup2 cgroup2 rw\n");
  EXPECT_EQ(folders, (std::vector<CgroupFolder>{{CgroupVersion::kV1, "/cg/memory/a"},
                                                {CgroupVersion::kV1, "/cg/memory"},
                                                {CgroupVersion::kV2, "/cg/unified"}}));
}

TEST(MemoryCgroups, ContainersSeeTheirOwnFolderAsTheMountsRoot) {
  const std::string mountinfo =
      "32 24 0:28 /kubepods/pod1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
  const std::vector<CgroupFolder> root = {{CgroupVersion::kV1, "/sys/fs/cgroup/memory"}};
  EXPECT_EQ(MemoryCgroups("4:memory:/kubepods/pod1\n", mountinfo), root);
  EXPECT_EQ(MemoryCgroups("4:memory:/kubepods/pod12\n", mountinfo), root);
  EXPECT_EQ(MemoryCgroups("4:memory:/elsewhere\n", mountinfo), root);
  EXPECT_EQ(MemoryCgroups("4:memory:/kubepods/pod1/inner\n", mountinfo)[0].path,
            "/sys/fs/cgroup/memory/inner");
}

TEST(MemoryCgroups, NeverLeadsOutOfTheMount) {
  EXPECT_EQ(MemoryCgroups("0::/../../other\n", "30 24 0:26 / /cg rw - cgroup2 cgroup2 rw\n"),
            (std::vector<CgroupFolder>{{CgroupVersion::kV2, "/cg"}}));
}

TEST(MemoryCgroups, NonsenseGivesNothing) {
  EXPECT_TRUE(MemoryCgroups("", "").empty());
  EXPECT_TRUE(MemoryCgroups("garbage\n:::\n", "a b c\n - \nx - y\n").empty());
}

TEST(CgroupMemory, RoomIsTheLimitLessWhatCannotBeReclaimed) {
  const auto v2 = ParseCgroupMemory(CgroupVersion::kV2, "8589934592\n", "3221225472\n",
                                    "anon 5\ninactive_file 1073741824\nactive_file 7\n");
  ASSERT_TRUE(v2.has_value());
  EXPECT_EQ(v2->limit, 8 * kGiB);
  EXPECT_EQ(v2->usage, 2 * kGiB);
  EXPECT_EQ(v2->room(), 6 * kGiB);
  const auto v1 = ParseCgroupMemory(CgroupVersion::kV1, "4294967296", "5368709120",
                                    "inactive_file 1\ntotal_inactive_file 536870912\n");
  ASSERT_TRUE(v1.has_value());
  EXPECT_EQ(v1->room(), 0u);
}

TEST(CgroupMemory, NoLimitIsNothing) {
  EXPECT_FALSE(ParseCgroupMemory(CgroupVersion::kV2, "max\n", "1\n", "").has_value());
  EXPECT_FALSE(
      ParseCgroupMemory(CgroupVersion::kV1, "9223372036854771712\n", "1\n", "").has_value());
  EXPECT_FALSE(ParseCgroupMemory(CgroupVersion::kV2, "", "", "").has_value());
}

TEST(Readers, ThisMachineHasMemory) {
  EXPECT_GT(ReadAvailableMemory().value(), 0u);
  EXPECT_GT(DefaultBudget().value(), 0u);
}

}  // namespace
}  // namespace weightd::host
