#include "common/pins.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd {
namespace {

constexpr size_t kDigits = 64;

}  // namespace

absl::Status AddPin(absl::string_view file, absl::string_view digest, Pins& pins) {
  if (digest.size() != kDigits ||
      !std::all_of(digest.begin(), digest.end(), absl::ascii_isxdigit)) {
    return Error(Reason::kInvalidArgument, absl::StrCat("\"", digest, "\" is no SHA-256"),
                 "give 64 hexadecimal digits, as sha256sum prints them");
  }
  if (!pins.emplace(file, absl::AsciiStrToLower(digest)).second) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat(file.empty() ? "the only file" : file, " is pinned twice"),
                 "give one SHA-256 for each file");
  }
  return absl::OkStatus();
}

absl::Status AddPin(absl::string_view text, Pins& pins) {
  const size_t equals = text.rfind('=');
  return equals == absl::string_view::npos
             ? AddPin("", text, pins)
             : AddPin(text.substr(0, equals), text.substr(equals + 1), pins);
}

}  // namespace weightd
