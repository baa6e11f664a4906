#ifndef WEIGHTD_DAEMON_FORMAT_TENSORIZER_DTYPE_H_
#define WEIGHTD_DAEMON_FORMAT_TENSORIZER_DTYPE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "common/dtype.h"

namespace weightd::format {

// An element as tensorizer names it.
struct ElementType {
  DType dtype = DType::kU8;
  // See TensorEntry.
  std::string torch_type = {};
  // How many of `dtype` make one element: more than one only for an element whose size no integer
  // has. They are then the innermost extent of the tensor's shape.
  uint64_t count = 1;
};

// Of numpy's name ("<f4"), or of an opaque type: a size, a NUL and torch's name
// ("<V2\0torch.bfloat16"). Nothing for what no writer makes: another byte order, an unknown numpy
// type, a type that torch has in another size.
std::optional<ElementType> ParseTensorizerDType(absl::string_view text);

// How a writer names an element; `torch_type` as in ElementType. Empty if torch has no such type.
std::string TensorizerDTypeText(DType dtype, absl::string_view torch_type);

}  // namespace weightd::format

#endif  // WEIGHTD_DAEMON_FORMAT_TENSORIZER_DTYPE_H_
