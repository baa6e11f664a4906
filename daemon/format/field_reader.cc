#include "daemon/format/field_reader.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/malformed.h"

namespace weightd::format {

absl::StatusOr<uint64_t> FieldReader::ReadUnsigned(size_t width, absl::string_view what) {
  ASSIGN_OR_RETURN(const absl::string_view bytes, ReadBytes(width, what));
  uint64_t value = 0;
  for (size_t i = width; i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

absl::StatusOr<absl::string_view> FieldReader::ReadBytes(uint64_t count, absl::string_view what) {
  if (count > left()) {
    return ErrorAt(offset(), absl::StrCat(what, " takes ", count, " bytes, there are ", left()));
  }
  const absl::string_view bytes = bytes_.substr(at_, count);
  at_ += count;
  return bytes;
}

absl::StatusOr<FieldReader> FieldReader::ReadSection(uint64_t count, absl::string_view what) {
  const uint64_t begin = offset();
  ASSIGN_OR_RETURN(const absl::string_view bytes, ReadBytes(count, what));
  return FieldReader(bytes, file_name_, begin, subject_);
}

absl::Status FieldReader::ErrorAt(uint64_t offset, absl::string_view rule) const {
  return MalformedAt(file_name_, offset, absl::StrCat(subject_, rule));
}

}  // namespace weightd::format
