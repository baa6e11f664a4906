#include "common/printable_text.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/utf8.h"

namespace weightd {
namespace {

void AppendEscaped(unsigned char byte, std::string& printable) {
  absl::StrAppend(&printable, "\\x", absl::Hex(byte, absl::kZeroPad2));
}

void AppendUtf8(absl::string_view text, std::string& printable) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F, the other control characters, are C2 80 to C2 9F.
    const bool is_c1 = byte == 0xc2 && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (absl::ascii_iscntrl(byte)) {
      AppendEscaped(byte, printable);
    } else if (is_c1) {
      ++i;
      absl::StrAppend(&printable, "\\u00",
                      absl::Hex(static_cast<unsigned char>(text[i]), absl::kZeroPad2));
    } else {
      printable.push_back(text[i]);
    }
  }
}

}  // namespace

std::string PrintableText(absl::string_view text) {
  std::string printable;
  printable.reserve(text.size());
  while (const std::optional<size_t> stray = FirstInvalidUtf8(text)) {
    AppendUtf8(text.substr(0, *stray), printable);
    AppendEscaped(static_cast<unsigned char>(text[*stray]), printable);
    text.remove_prefix(*stray + 1);
  }
  AppendUtf8(text, printable);
  return printable;
}

}  // namespace weightd
