#include "daemon/config_values.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/status.h"
#include "daemon/service/access.h"
#include "daemon/service/normal_pattern.h"
#include "daemon/service/tcp_address.h"

namespace weightd {
namespace {

constexpr size_t kMaxNameBytes = 200;

bool IsName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && absl::ascii_isalnum(name[0]) &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-' || c == '/';
         });
}

}  // namespace

absl::Status CheckRange(uint64_t value, Range range, absl::string_view path,
                        const FieldLines& lines, absl::string_view hint) {
  if (value >= range.least && value <= range.most) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(path, absl::StrCat("must be from ", range.least, " to ", range.most), hint);
}

absl::Status CheckName(const std::string& name, absl::string_view path, const FieldLines& lines) {
  if (IsName(name)) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(path, "not a name",
                       "use letters, digits, '.', '_', '-', '/', the first a letter or digit");
}

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

absl::Status CheckModelPatterns(const google::protobuf::RepeatedPtrField<std::string>& patterns,
                                absl::string_view path, const FieldLines& lines) {
  RETURN_IF_ERROR(CheckPatterns(patterns, path, lines));
  for (int i = 0; i < patterns.size(); ++i) {
    const absl::Status status = service::NormalPattern(patterns[i]).status();
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

absl::Status CheckListenAddress(absl::string_view value, absl::string_view path,
                                const FieldLines& lines) {
  const absl::Status status = service::ParseTcpAddress(value).status();
  return status.ok() ? status : lines.ErrorAt(path, status.message(), HintOf(status));
}

}  // namespace weightd
