#include "common/utf8.h"

namespace weightd {
namespace {

bool IsContinuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

// Bytes of the well-formed sequence at the front of `text`, 0 if there is none (Unicode 15, table
// 3-7).
size_t Utf8Sequence(absl::string_view text) {
  const auto at = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : static_cast<unsigned char>(0);
  };
  const unsigned char lead = at(0);
  if (lead < 0x80) {
    return 1;
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    return IsContinuation(at(1)) ? 2 : 0;
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool overlong = lead == 0xE0 && at(1) < 0xA0;
    const bool surrogate = lead == 0xED && at(1) >= 0xA0;
    return IsContinuation(at(1)) && IsContinuation(at(2)) && !overlong && !surrogate ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool overlong = lead == 0xF0 && at(1) < 0x90;
    const bool beyond = lead == 0xF4 && at(1) >= 0x90;
    return IsContinuation(at(1)) && IsContinuation(at(2)) && IsContinuation(at(3)) && !overlong &&
                   !beyond
               ? 4
               : 0;
  }
  return 0;
}

}  // namespace

std::optional<size_t> FirstInvalidUtf8(absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = Utf8Sequence(text.substr(i, 4));
    if (length == 0) {
      return i;
    }
    i += length;
  }
  return std::nullopt;
}

std::string ToUtf8(absl::string_view text) {
  std::string result(text);
  size_t checked = 0;
  while (const auto stray = FirstInvalidUtf8(absl::string_view(result).substr(checked))) {
    checked += *stray;
    result[checked++] = '?';
  }
  return result;
}

}  // namespace weightd
