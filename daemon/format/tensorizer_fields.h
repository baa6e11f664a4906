#ifndef WEIGHTD_DAEMON_FORMAT_TENSORIZER_FIELDS_H_
#define WEIGHTD_DAEMON_FORMAT_TENSORIZER_FIELDS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/dtype.h"
#include "daemon/format/field_reader.h"
#include "daemon/format/header.h"

// The fields that a tensorizer file says twice of a tensor: in its metadata and in the header of
// the tensor's record.

namespace weightd::format {

absl::StatusOr<absl::string_view> ReadTensorName(FieldReader& reader);

absl::StatusOr<TensorKind> ReadTensorKind(FieldReader& reader);

struct TypeAndShape {
  DType dtype = DType::kU8;
  std::string torch_type = {};
  std::vector<uint64_t> shape = {};
};

// `wide_shape` as in RecordPlace.
absl::StatusOr<TypeAndShape> ReadTypeAndShape(FieldReader& reader, bool wide_shape);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_TENSORIZER_FIELDS_H_
