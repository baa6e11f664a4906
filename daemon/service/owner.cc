#include "daemon/service/owner.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status.h"

namespace weightd::service {
namespace {

constexpr size_t kFirstBuffer = 4096;
constexpr size_t kLargestBuffer = 1 << 20;

// What `look` finds; it is called with larger buffers until one is large enough (ERANGE).
std::optional<uint32_t> LookUp(
    absl::FunctionRef<int(std::vector<char>& buffer, std::optional<uint32_t>& found)> look) {
  std::optional<uint32_t> found;
  for (size_t size = kFirstBuffer; size <= kLargestBuffer; size *= 2) {
    std::vector<char> buffer(size);
    if (look(buffer, found) != ERANGE) {
      break;
    }
  }
  return found;
}

std::optional<uint32_t> UserNamed(const std::string& name) {
  return LookUp([&](std::vector<char>& buffer, std::optional<uint32_t>& found) {
    passwd entry{};
    passwd* result = nullptr;
    const int error = getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &result);
    if (result != nullptr) {
      found = entry.pw_uid;
    }
    return error;
  });
}

std::optional<uint32_t> GroupNamed(const std::string& name) {
  return LookUp([&](std::vector<char>& buffer, std::optional<uint32_t>& found) {
    group entry{};
    group* result = nullptr;
    const int error = getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &result);
    if (result != nullptr) {
      found = entry.gr_gid;
    }
    return error;
  });
}

absl::StatusOr<uint32_t> NumberOf(const std::string& text, absl::string_view kind,
                                  std::optional<uint32_t> (*named)(const std::string&)) {
  uint32_t number = 0;
  // The highest number means "leave as it is" to chown(2).
  if (absl::c_all_of(text, absl::ascii_isdigit) && absl::SimpleAtoi(text, &number) &&
      number != std::numeric_limits<uint32_t>::max()) {
    return number;
  }
  const std::optional<uint32_t> found = named(text);
  if (!found.has_value()) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("this machine knows no ", kind, " \"", absl::CEscape(text), "\""),
                 absl::StrCat("create the ", kind, ", or give a number"));
  }
  return *found;
}

}  // namespace

bool Owner::foreign() const { return user.has_value() && *user != geteuid(); }

absl::StatusOr<Owner> ParseOwner(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  if (parts.size() > 2 || parts.back().empty()) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("\"", absl::CEscape(text), "\" is not an owner"),
                 "write user, user:group or :group, by name or number");
  }
  Owner owner;
  if (!parts.front().empty()) {
    ASSIGN_OR_RETURN(owner.user, NumberOf(parts.front(), "user", UserNamed));
  }
  if (parts.size() == 2) {
    ASSIGN_OR_RETURN(owner.group, NumberOf(parts.back(), "group", GroupNamed));
  }
  return owner;
}

}  // namespace weightd::service
