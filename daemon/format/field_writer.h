#ifndef WEIGHTD_DAEMON_FORMAT_FIELD_WRITER_H_
#define WEIGHTD_DAEMON_FORMAT_FIELD_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace weightd::format {

// Appends an integer of 1 to 8 bytes, little-endian: what FieldReader reads.
inline void PutUnsigned(std::string& bytes, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) {
    bytes += static_cast<char>(value >> (8 * i));
  }
}

// Appends `text` behind its length.
inline void PutText(std::string& bytes, absl::string_view text, size_t width) {
  PutUnsigned(bytes, text.size(), width);
  bytes.append(text.data(), text.size());
}

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_FIELD_WRITER_H_
