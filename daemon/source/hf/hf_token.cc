#include "daemon/source/hf/hf_token.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/source/credentials/text_file.h"

namespace weightd::source {
namespace {

constexpr size_t kLongestToken = 4096;

// It becomes part of a line of a request.
absl::StatusOr<std::string> Checked(absl::string_view text, absl::string_view from) {
  text = absl::StripAsciiWhitespace(text);
  if (text.size() > kLongestToken || !std::all_of(text.begin(), text.end(), absl::ascii_isgraph)) {
    return Error(Reason::kSourceDenied, absl::StrCat(from, " holds no token"),
                 "put the token there alone, as the hub shows it");
  }
  return std::string(text);
}

}  // namespace

absl::StatusOr<std::string> HfToken::Get() const {
  if (!value.empty() || file.empty()) {
    return Checked(value, "HF_TOKEN");
  }
  const absl::StatusOr<TextFile> found = ReadTextFile(file);
  if (!file_required && ReasonOf(found.status()) == Reason::kModelNotFound) {
    return "";
  }
  if (!found.ok()) {
    return Error(Reason::kSourceDenied, absl::StrCat("the hub's token: ", found.status().message()),
                 "let the daemon read it, or name another with sources.hf.token_file");
  }
  return Checked(found->text, file);
}

}  // namespace weightd::source
