#include "daemon/format/tensorizer_path.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/format/json_reader.h"
#include "daemon/format/malformed.h"

namespace weightd::format {
namespace {

// Begins a structured name.
constexpr char kStructured = '\x1e';
constexpr absl::string_view kNul("\0", 1);
constexpr char kAfterNulOfKey = '\xFF';

void AppendKey(absl::string_view key, std::string& steps) {
  absl::StrAppend(&steps, "s", absl::StrReplaceAll(key, {{kNul, absl::string_view("\0\xFF", 2)}}),
                  kNul);
}

absl::Status ReadStep(JsonReader& json, bool is_key, std::string& steps) {
  if (is_key) {
    ASSIGN_OR_RETURN(const absl::string_view key, json.ReadString());
    AppendKey(key, steps);
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const uint64_t position, json.ReadUnsigned());
  absl::StrAppend(&steps, "i", position, kNul);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadSteps(absl::string_view file_name, absl::string_view text,
                                      uint64_t offset) {
  if (!absl::StartsWith(text, "[") || !absl::EndsWith(text, "]") ||
      text.find_first_of("\n\r") != absl::string_view::npos) {
    return MalformedAt(file_name, offset, "a structured name must be a JSON array on one line");
  }
  ASSIGN_OR_RETURN(JsonReader json, JsonReader::Open(text, file_name, offset));
  std::string steps;
  RETURN_IF_ERROR(json.ReadArray([&]() -> absl::Status {
    const size_t next = text.find_first_not_of(" \t", json.offset() - offset);
    return ReadStep(json, next != absl::string_view::npos && text[next] == '"', steps);
  }));
  RETURN_IF_ERROR(json.Finish());
  return steps;
}

// The rule that two paths break, `b` next after `a`; empty if none.
absl::string_view BrokenRule(absl::string_view a, absl::string_view b) {
  const size_t at = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
  if (at == a.size()) {
    if (at == b.size()) {
      return "stands twice";
    }
    return b[at] == kAfterNulOfKey ? "" : "leads through another tensor";
  }
  const bool steps_begin = at == 0 || a[at - 1] == '\0';
  return steps_begin && a[at] == 'i' && b[at] == 's' ? "lies in a sequence that also has keys" : "";
}

// Of a tensor's place, for errors.
std::string Show(absl::string_view steps) {
  return Quoted(absl::StrReplaceAll(steps.substr(1, steps.size() - 2), {{kNul, "/"}}));
}

}  // namespace

absl::StatusOr<TensorPath> ParseTensorPath(absl::string_view file_name, absl::string_view name,
                                           TensorKind kind, uint64_t offset) {
  if (const std::optional<size_t> at = FirstInvalidUtf8(name); at.has_value()) {
    return MalformedAt(file_name, offset + *at, "a tensor's name must be UTF-8");
  }
  TensorPath path{.steps = {}, .offset = offset};
  if (!name.empty() && name[0] == kStructured) {
    if (kind != TensorKind::kStateDict) {
      return MalformedAt(file_name, offset, "a structured name of a tensor of no state dict");
    }
    ASSIGN_OR_RETURN(path.steps, ReadSteps(file_name, name.substr(1), offset + 1));
  } else {
    AppendKey(name, path.steps);
  }
  if (path.steps.empty() || path.steps == absl::StrCat("s", kNul)) {
    return MalformedAt(file_name, offset, "a tensor's name is empty");
  }
  return path;
}

absl::Status CheckTensorPaths(absl::string_view file_name, std::vector<TensorPath>& paths) {
  std::sort(paths.begin(), paths.end(),
            [](const TensorPath& a, const TensorPath& b) { return a.steps < b.steps; });
  for (size_t i = 1; i < paths.size(); ++i) {
    const absl::string_view rule = BrokenRule(paths[i - 1].steps, paths[i].steps);
    if (!rule.empty()) {
      return MalformedAt(file_name, paths[i].offset,
                         absl::StrCat("tensor ", Show(paths[i].steps), " ", rule));
    }
  }
  return absl::OkStatus();
}

}  // namespace weightd::format
