#include "common/printable_text.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "common/unseen_character.h"
#include "common/utf8.h"

namespace weightd {
namespace {

void AppendEscaped(unsigned char byte, std::string& printable) {
  absl::StrAppend(&printable, "\\x", absl::Hex(byte, absl::kZeroPad2));
}

void AppendUtf8(absl::string_view text, std::string& printable) {
  while (!text.empty()) {
    const std::optional<UnseenCharacter> unseen = UnseenAtFront(text);
    if (!unseen.has_value()) {
      printable.push_back(text.front());
      text.remove_prefix(1);
      continue;
    }
    if (unseen->bytes == 1) {
      AppendEscaped(static_cast<unsigned char>(text.front()), printable);
    } else {
      absl::StrAppend(&printable, "\\u", absl::Hex(unseen->code_point, absl::kZeroPad4));
    }
    text.remove_prefix(unseen->bytes);
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
