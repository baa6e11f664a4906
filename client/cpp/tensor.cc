#include "client/cpp/tensor.h"

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::client {

absl::StatusOr<absl::Span<std::byte>> Tensor::mutable_bytes() const {
  if (!writable_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "tensor ", name(), " is mapped read-only; attach with Access::kPrivateWritable"));
  }
  return bytes_;
}

absl::Status Tensor::CheckTyped(bool element_is, size_t alignment) const {
  if (!element_is) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("tensor ", name(), " has elements of type ", DTypeName(dtype())),
                 "ask for that type, for an unsigned integer of its size, or for bytes()");
  }
  if (!strides().empty()) {
    return Error(Reason::kInvalidArgument, absl::StrCat("tensor ", name(), " is strided"),
                 "use bytes() and strides()");
  }
  if (reinterpret_cast<uintptr_t>(bytes_.data()) % alignment != 0) {
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("tensor ", name(), " is not aligned to its type"), "copy bytes()");
  }
  return absl::OkStatus();
}

}  // namespace weightd::client
