#include "daemon/format/tensorizer_fields.h"

#include <cstddef>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/format/malformed.h"
#include "daemon/format/tensorizer_dtype.h"

namespace weightd::format {

absl::StatusOr<absl::string_view> ReadTensorName(FieldReader& reader) {
  ASSIGN_OR_RETURN(const uint64_t length, reader.ReadUnsigned(2, "a name's length"));
  return reader.ReadBytes(length, "a name");
}

absl::StatusOr<TensorKind> ReadTensorKind(FieldReader& reader) {
  const uint64_t offset = reader.offset();
  ASSIGN_OR_RETURN(const uint64_t kind, reader.ReadUnsigned(1, "a tensor's kind"));
  if (kind > static_cast<uint64_t>(TensorKind::kStateDict)) {
    return reader.ErrorAt(offset, absl::StrCat("unknown kind of tensor ", kind));
  }
  return static_cast<TensorKind>(kind);
}

absl::StatusOr<TypeAndShape> ReadTypeAndShape(FieldReader& reader, bool wide_shape) {
  const uint64_t offset = reader.offset();
  ASSIGN_OR_RETURN(const uint64_t length, reader.ReadUnsigned(1, "a dtype's length"));
  ASSIGN_OR_RETURN(const absl::string_view name, reader.ReadBytes(length, "a dtype"));
  std::optional<ElementType> element = ParseTensorizerDType(name);
  if (!element.has_value()) {
    return reader.ErrorAt(offset, absl::StrCat("unknown dtype ", Quoted(name)));
  }
  TypeAndShape type{element->dtype, std::move(element->torch_type), {}};
  ASSIGN_OR_RETURN(const uint64_t rank, reader.ReadUnsigned(1, "a shape's length"));
  const size_t width = wide_shape ? 8 : 4;
  ASSIGN_OR_RETURN(FieldReader extents, reader.ReadSection(rank * width, "a shape"));
  const bool has_inner = element->count > 1;
  type.shape.reserve(rank + (has_inner ? 1 : 0));
  for (uint64_t axis = 0; axis < rank; ++axis) {
    ASSIGN_OR_RETURN(const uint64_t extent, extents.ReadUnsigned(width, "an extent"));
    type.shape.push_back(extent);
  }
  if (has_inner) {
    type.shape.push_back(element->count);
  }
  return type;
}

}  // namespace weightd::format
