#ifndef WEIGHTD_DAEMON_HOST_MEMORY_LIMITS_H_
#define WEIGHTD_DAEMON_HOST_MEMORY_LIMITS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// What the machine and this process's memory cgroups (v1, v2 or both) leave to use. The parsers are
// pure; the readers below them read /proc and /sys. All numbers are bytes.

namespace weightd::host {

// Room that the machine has, whatever the budget says: the least of MemAvailable and what each
// enclosing cgroup leaves.
absl::StatusOr<uint64_t> ReadAvailableMemory();

// The budget when the config gives none: the least of half of MemTotal and the cgroups' least limit
// less 1 GiB.
absl::StatusOr<uint64_t> DefaultBudget();

// A field of /proc/meminfo ("MemAvailable"), in bytes.
absl::StatusOr<uint64_t> ParseMeminfo(absl::string_view text, absl::string_view field);

enum class CgroupVersion { kV1, kV2 };

// A cgroup's folder in the file system.
struct CgroupFolder {
  CgroupVersion version = CgroupVersion::kV2;
  std::string path;

  friend bool operator==(const CgroupFolder&, const CgroupFolder&) = default;
};

// The memory cgroups that limit this process: its own and all ancestors that are mounted, from
// /proc/self/cgroup and /proc/self/mountinfo. In a container whose own cgroup is mounted as the
// root, that root.
std::vector<CgroupFolder> MemoryCgroups(absl::string_view cgroup, absl::string_view mountinfo);

// What one cgroup allows and uses. Page cache that nobody used lately doesn't count as use: the
// kernel drops it first.
struct CgroupMemory {
  uint64_t limit = 0;
  uint64_t usage = 0;

  uint64_t room() const { return limit > usage ? limit - usage : 0; }
};

// From memory.max, memory.current and memory.stat, or their v1 counterparts. Nothing if the cgroup
// has no limit or the texts aren't what the kernel writes.
std::optional<CgroupMemory> ParseCgroupMemory(CgroupVersion version, absl::string_view limit,
                                              absl::string_view usage, absl::string_view stat);

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_MEMORY_LIMITS_H_
