#include "daemon/format/malformed.h"

#include <cstddef>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::format {
namespace {

constexpr size_t kMaxQuotedBytes = 200;

}  // namespace

absl::Status MalformedAt(absl::string_view file_name, uint64_t offset, absl::string_view rule) {
  return Error(Reason::kMalformedModel, absl::StrCat(file_name, ": byte ", offset, ": ", rule),
               "fetch or write the file again; it is damaged or not what its name says");
}

std::string Quoted(absl::string_view name) {
  const bool cut = name.size() > kMaxQuotedBytes;
  const std::string escaped = absl::Utf8SafeCEscape(name.substr(0, kMaxQuotedBytes));
  return absl::StrCat("\"", escaped, cut ? "…" : "", "\"");
}

}  // namespace weightd::format
