#include "daemon/config_values.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/status.h"
#include "daemon/service/access.h"

namespace weightd {

absl::Status CheckOneOf(const std::string& value, absl::Span<const absl::string_view> allowed,
                        absl::string_view path, const FieldLines& lines) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(path, absl::StrCat("must be one of ", absl::StrJoin(allowed, ", ")));
}

absl::Status CheckPatterns(const google::protobuf::RepeatedPtrField<std::string>& patterns,
                           absl::string_view path, const FieldLines& lines) {
  for (int i = 0; i < patterns.size(); ++i) {
    const absl::Status status = service::Pattern::Parse(patterns[i]).status();
    if (!status.ok()) {
      return lines.ErrorAt(absl::StrCat(path, "[", i, "]"), status.message(), HintOf(status));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAbsolutePath(absl::string_view path, absl::string_view field,
                               const FieldLines& lines) {
  const std::vector<absl::string_view> segments = absl::StrSplit(path, '/');
  const bool climbs = std::find(segments.begin(), segments.end(), "..") != segments.end();
  if (!path.empty() && path[0] == '/' && !climbs) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(field, "not an absolute path without ..", "write it from / on");
}

}  // namespace weightd
