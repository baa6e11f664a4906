#include "common/pins.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status.h"

namespace weightd {
namespace {

constexpr size_t kDigits = 64;
constexpr absl::string_view kPrefix = "sha256:";

}  // namespace

absl::Status AddPin(absl::string_view file, absl::string_view digest, Pins& pins) {
  const absl::string_view digits = absl::StripPrefix(digest, kPrefix);
  if (digits.size() != kDigits ||
      !std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) {
    return Error(Reason::kInvalidArgument, absl::StrCat("\"", digest, "\" is no SHA-256"),
                 "give 64 hexadecimal digits, as sha256sum prints them");
  }
  const std::string pin = absl::AsciiStrToLower(digits);
  const auto [known, is_new] = pins.emplace(file, pin);
  if (!is_new && known->second != pin) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat(file.empty() ? "the only file" : file, " is pinned to two digests"),
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
