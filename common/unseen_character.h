#ifndef WEIGHTD_COMMON_UNSEEN_CHARACTER_H_
#define WEIGHTD_COMMON_UNSEEN_CHARACTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace weightd {

// A character that a reader doesn't see, but a terminal obeys or a reader is misled by: controls
// (C0, DEL and C1), line separators, what turns the direction of writing, what has no width.
struct UnseenCharacter {
  uint32_t code_point;
  size_t bytes;
};

// The one at the front of `text`, which is UTF-8; nothing if another character is there.
std::optional<UnseenCharacter> UnseenAtFront(absl::string_view text);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_UNSEEN_CHARACTER_H_
