#ifndef WEIGHTD_CLIENT_CPP_TENSOR_INFO_H_
#define WEIGHTD_CLIENT_CPP_TENSOR_INFO_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/dtype.h"

namespace weightd::client {

// What a tensor is, wherever its bytes are. Valid while a copy of its model lives; owns nothing.
class TensorInfo {
 public:
  // Everything was checked: the bytes lie in the segment and are as many as dtype, shape and
  // strides give.
  TensorInfo(absl::string_view name, DType dtype, absl::string_view torch_type,
             absl::Span<const uint64_t> shape, absl::Span<const int64_t> strides, uint64_t offset,
             uint64_t nbytes)
      : name_(name),
        dtype_(dtype),
        torch_type_(torch_type),
        shape_(shape),
        strides_(strides),
        offset_(offset),
        nbytes_(nbytes) {}

  absl::string_view name() const { return name_; }
  // The name that its bytes are stored under, if this is another one of theirs; else empty.
  absl::string_view alias_of() const { return alias_of_; }
  DType dtype() const { return dtype_; }
  // torch's name ("bits16") of an element type that `dtype` can't tell, which then is an integer of
  // the same size; the file's words, not checked. Else empty.
  absl::string_view torch_type() const { return torch_type_; }
  // Extents in elements, outermost first; empty for a scalar.
  absl::Span<const uint64_t> shape() const { return shape_; }
  // Step between neighbours along each axis in elements; empty for C-contiguous tensors.
  absl::Span<const int64_t> strides() const { return strides_; }
  // First byte, counted from the first byte of the mapping.
  uint64_t offset() const { return offset_; }
  uint64_t nbytes() const { return nbytes_; }

 protected:
  // Makes this another name of the tensor that it is.
  void BecomeAlias(absl::string_view alias) {
    alias_of_ = name_;
    name_ = alias;
  }

 private:
  absl::string_view name_;
  absl::string_view alias_of_;
  DType dtype_;
  absl::string_view torch_type_;
  absl::Span<const uint64_t> shape_;
  absl::Span<const int64_t> strides_;
  uint64_t offset_;
  uint64_t nbytes_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_TENSOR_INFO_H_
