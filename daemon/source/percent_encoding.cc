#include "daemon/source/percent_encoding.h"

#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace weightd::source {
namespace {

// RFC 3986, section 2.3.
bool IsUnreserved(char c) { return absl::ascii_isalnum(c) || absl::StrContains("-._~", c); }

std::string EncodeBut(absl::string_view text, absl::string_view kept) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (IsUnreserved(c) || absl::StrContains(kept, c)) {
      out.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.append({'%', kDigits[byte >> 4], kDigits[byte & 15]});
    }
  }
  return out;
}

// Of an ASCII hexadecimal digit.
int ValueOf(char digit) {
  return absl::ascii_isdigit(digit) ? digit - '0' : absl::ascii_tolower(digit) - 'a' + 10;
}

// The byte that the escape at the front of `text` stands for.
std::optional<char> EscapedByte(absl::string_view text) {
  if (text.size() < 3 || text[0] != '%' || !absl::ascii_isxdigit(text[1]) ||
      !absl::ascii_isxdigit(text[2])) {
    return std::nullopt;
  }
  return static_cast<char>(ValueOf(text[1]) << 4 | ValueOf(text[2]));
}

}  // namespace

std::string PercentEncode(absl::string_view text) { return EncodeBut(text, ""); }

std::string PathOfKey(absl::string_view key) { return absl::StrCat("/", EncodeBut(key, "/")); }

std::string PercentDecode(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const std::optional<char> escaped = EscapedByte(text.substr(i));
    out.push_back(escaped.value_or(text[i]));
    i += escaped.has_value() ? 2 : 0;
  }
  return out;
}

std::optional<std::string> FormDecode(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i] == '+' ? ' ' : text[i]);
      continue;
    }
    const std::optional<char> escaped = EscapedByte(text.substr(i));
    if (!escaped.has_value()) {
      return std::nullopt;
    }
    out.push_back(*escaped);
    i += 2;
  }
  return out;
}

}  // namespace weightd::source
