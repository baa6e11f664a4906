#include "common/unseen_character.h"

namespace weightd {
namespace {

bool IsUnseen(uint32_t code_point) {
  const auto within = [code_point](uint32_t first, uint32_t last) {
    return code_point >= first && code_point <= last;
  };
  return code_point < 0x20 || within(0x7f, 0x9f) || code_point == 0x61c || within(0x200b, 0x200f) ||
         within(0x2028, 0x202e) || within(0x2066, 0x2069) || code_point == 0xfeff;
}

}  // namespace

std::optional<UnseenCharacter> UnseenAtFront(absl::string_view text) {
  const auto at = [text](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : uint32_t{0};
  };
  if (text.empty()) {
    return std::nullopt;
  }
  UnseenCharacter character = {.code_point = at(0), .bytes = 1};
  if (at(0) >= 0xe0 && at(0) < 0xf0) {
    character = {.code_point = (at(0) & 0xf) << 12 | (at(1) & 0x3f) << 6 | (at(2) & 0x3f),
                 .bytes = 3};
  } else if (at(0) >= 0xc0 && at(0) < 0xe0) {
    character = {.code_point = (at(0) & 0x1f) << 6 | (at(1) & 0x3f), .bytes = 2};
  } else if (at(0) >= 0x80) {
    return std::nullopt;  // none of those of four bytes, and no part of one
  }
  return IsUnseen(character.code_point) ? std::optional(character) : std::nullopt;
}

}  // namespace weightd
