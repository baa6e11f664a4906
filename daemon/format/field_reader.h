#ifndef WEIGHTD_DAEMON_FORMAT_FIELD_READER_H_
#define WEIGHTD_DAEMON_FORMAT_FIELD_READER_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightd::format {

// Takes fields of a binary header from front to back: little-endian, unaligned, never beyond the
// bytes it was given. Errors are kMalformedModel with file, byte offset and rule. Owns nothing:
// what it is made of outlives it. Not thread-safe.
class FieldReader {
 public:
  // `base` is the offset in the file of the first of `bytes`; errors' rules begin with `subject`.
  FieldReader(absl::string_view bytes, absl::string_view file_name, uint64_t base,
              absl::string_view subject = {})
      : bytes_(bytes), file_name_(file_name), subject_(subject), base_(base) {}

  // An integer of 1 to 8 bytes. `what` is the field's name in errors, here and below.
  absl::StatusOr<uint64_t> ReadUnsigned(size_t width, absl::string_view what);
  absl::StatusOr<absl::string_view> ReadBytes(uint64_t count, absl::string_view what);
  // The next `count` bytes, to be read by themselves.
  absl::StatusOr<FieldReader> ReadSection(uint64_t count, absl::string_view what);

  // Of the next byte, counted from the file's first.
  uint64_t offset() const { return base_ + at_; }
  size_t left() const { return bytes_.size() - at_; }
  absl::string_view file_name() const { return file_name_; }

  absl::Status ErrorAt(uint64_t offset, absl::string_view rule) const;

 private:
  absl::string_view bytes_;
  absl::string_view file_name_;
  absl::string_view subject_;
  uint64_t base_;
  size_t at_ = 0;
};

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_FIELD_READER_H_
