#ifndef WEIGHTD_COMMON_UTF8_H_
#define WEIGHTD_COMMON_UTF8_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace weightd {

// Where the first byte lies that is not part of well-formed UTF-8 (Unicode 15, table 3-7: no
// overlong forms, no surrogates, nothing beyond U+10FFFF). Nothing if all is well.
std::optional<size_t> FirstInvalidUtf8(absl::string_view text);

// For protobuf and JSON, whose strings are nothing else: every malformed byte becomes "?".
std::string ToUtf8(absl::string_view text);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_UTF8_H_
