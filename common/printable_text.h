#ifndef WEIGHTD_COMMON_PRINTABLE_TEXT_H_
#define WEIGHTD_COMMON_PRINTABLE_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace weightd {

// Names come from foreign files and stores. For people: control characters, which a terminal would
// obey, are escaped, and so are bytes that are not UTF-8, which no message can carry.
std::string PrintableText(absl::string_view text);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_PRINTABLE_TEXT_H_
