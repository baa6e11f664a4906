#include "daemon/host/memory_limits.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/fd.h"
#include "common/status.h"

namespace weightd::host {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;
// cgroup v1 says "no limit" with the largest number of whole pages.
constexpr uint64_t kUnlimitedV1 = uint64_t{1} << 62;

// Files of /proc and /sys have no size to ask for: read to the end.
absl::StatusOr<std::string> ReadWhole(const std::string& path) {
  const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) {
    return ErrnoError(errno, absl::StrCat("open ", path));
  }
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t count = read(file.get(), buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return ErrnoError(errno, absl::StrCat("read ", path));
    }
    if (count == 0) {
      return text;
    }
    text.append(buffer, static_cast<size_t>(count));
  }
}

// Adds `path` below `mount_point` and all its ancestors up to the mount point.
void AddWithAncestors(CgroupVersion version, absl::string_view mount_point, absl::string_view path,
                      std::vector<CgroupFolder>& folders) {
  absl::string_view rest = absl::StripSuffix(path, "/");
  while (!rest.empty()) {
    folders.push_back({version, absl::StrCat(mount_point, rest)});
    rest = rest.substr(0, rest.rfind('/'));
  }
  folders.push_back({version, std::string(mount_point)});
}

// A cgroup's path as seen from a mount of the hierarchy whose root is `mount_root`.
absl::string_view BelowMount(absl::string_view path, absl::string_view mount_root) {
  // A process outside the cgroup namespace's root sees itself above it.
  if (absl::StartsWith(path, "/..")) {
    return {};
  }
  if (mount_root == "/") {
    return path;
  }
  if (absl::ConsumePrefix(&path, mount_root) && (path.empty() || path.front() == '/')) {
    return path;
  }
  return {};
}

// Fields of memory.stat are "name value" lines.
std::optional<uint64_t> StatField(absl::string_view stat, absl::string_view field) {
  for (absl::string_view line : absl::StrSplit(stat, '\n')) {
    uint64_t value = 0;
    if (absl::ConsumePrefix(&line, field) && absl::ConsumePrefix(&line, " ") &&
        absl::SimpleAtoi(line, &value)) {
      return value;
    }
  }
  return std::nullopt;
}

std::vector<CgroupMemory> ReadCgroups() {
  const auto cgroup = ReadWhole("/proc/self/cgroup");
  const auto mountinfo = ReadWhole("/proc/self/mountinfo");
  std::vector<CgroupMemory> memories;
  if (!cgroup.ok() || !mountinfo.ok()) {
    return memories;
  }
  for (const CgroupFolder& folder : MemoryCgroups(*cgroup, *mountinfo)) {
    const bool v1 = folder.version == CgroupVersion::kV1;
    const auto limit =
        ReadWhole(absl::StrCat(folder.path, v1 ? "/memory.limit_in_bytes" : "/memory.max"));
    const auto usage =
        ReadWhole(absl::StrCat(folder.path, v1 ? "/memory.usage_in_bytes" : "/memory.current"));
    const auto stat = ReadWhole(absl::StrCat(folder.path, "/memory.stat"));
    // The root of v2 and hierarchies without the memory controller have no such files.
    if (!limit.ok() || !usage.ok() || !stat.ok()) {
      continue;
    }
    if (const auto memory = ParseCgroupMemory(folder.version, *limit, *usage, *stat)) {
      memories.push_back(*memory);
    }
  }
  return memories;
}

}  // namespace

absl::StatusOr<uint64_t> ParseMeminfo(absl::string_view text, absl::string_view field) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    uint64_t kibibytes = 0;
    if (absl::ConsumePrefix(&line, field) && absl::ConsumePrefix(&line, ":") &&
        absl::ConsumeSuffix(&line, " kB") && absl::SimpleAtoi(line, &kibibytes)) {
      return kibibytes * 1024;
    }
  }
  return Error(Reason::kInternal, absl::StrCat("/proc/meminfo has no ", field));
}

std::vector<CgroupFolder> MemoryCgroups(absl::string_view cgroup, absl::string_view mountinfo) {
  // Lines of /proc/self/cgroup are "id:controllers:path"; v2 has id 0 and no controllers.
  std::optional<std::string> v1_path;
  std::optional<std::string> v2_path;
  for (absl::string_view line : absl::StrSplit(cgroup, '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) {
      continue;
    }
    if (fields[0] == "0" && fields[1].empty()) {
      v2_path = std::string(fields[2]);
    }
    for (absl::string_view controller : absl::StrSplit(fields[1], ',')) {
      if (controller == "memory") {
        v1_path = std::string(fields[2]);
      }
    }
  }
  // Lines of mountinfo: id parent major:minor root mount-point options [optional…] - type source
  // super-options.
  std::vector<CgroupFolder> folders;
  for (absl::string_view line : absl::StrSplit(mountinfo, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> halves =
        absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    const std::vector<absl::string_view> mount = absl::StrSplit(halves.first, ' ');
    const std::vector<absl::string_view> type = absl::StrSplit(halves.second, ' ');
    if (mount.size() < 5 || type.size() < 3) {
      continue;
    }
    const bool v1 =
        type[0] == "cgroup" && absl::StrContains(absl::StrCat(",", type[2], ","), ",memory,");
    const std::optional<std::string>& path = v1 ? v1_path : v2_path;
    if ((v1 || type[0] == "cgroup2") && path.has_value()) {
      AddWithAncestors(v1 ? CgroupVersion::kV1 : CgroupVersion::kV2, mount[4],
                       BelowMount(*path, mount[3]), folders);
    }
  }
  return folders;
}

std::optional<CgroupMemory> ParseCgroupMemory(CgroupVersion version, absl::string_view limit,
                                              absl::string_view usage, absl::string_view stat) {
  CgroupMemory memory;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(limit), &memory.limit) ||
      !absl::SimpleAtoi(absl::StripAsciiWhitespace(usage), &memory.usage) ||
      (version == CgroupVersion::kV1 && memory.limit >= kUnlimitedV1)) {
    return std::nullopt;
  }
  const uint64_t cache =
      StatField(stat, version == CgroupVersion::kV1 ? "total_inactive_file" : "inactive_file")
          .value_or(0);
  memory.usage -= std::min(memory.usage, cache);
  return memory;
}

absl::StatusOr<uint64_t> ReadAvailableMemory() {
  ASSIGN_OR_RETURN(const std::string meminfo, ReadWhole("/proc/meminfo"));
  ASSIGN_OR_RETURN(uint64_t available, ParseMeminfo(meminfo, "MemAvailable"));
  for (const CgroupMemory& memory : ReadCgroups()) {
    available = std::min(available, memory.room());
  }
  return available;
}

absl::StatusOr<uint64_t> DefaultBudget() {
  ASSIGN_OR_RETURN(const std::string meminfo, ReadWhole("/proc/meminfo"));
  ASSIGN_OR_RETURN(const uint64_t total, ParseMeminfo(meminfo, "MemTotal"));
  uint64_t budget = total / 2;
  for (const CgroupMemory& memory : ReadCgroups()) {
    // Half of a limit so small that less 1 GiB would leave next to nothing.
    budget = std::min(budget, memory.limit > 2 * kGiB ? memory.limit - kGiB : memory.limit / 2);
  }
  return budget;
}

}  // namespace weightd::host
