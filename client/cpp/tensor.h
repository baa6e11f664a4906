#ifndef WEIGHTD_CLIENT_CPP_TENSOR_H_
#define WEIGHTD_CLIENT_CPP_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/dtype.h"

namespace weightd::client {

namespace internal {

// Whether elements of `dtype` can be looked at as T: the type itself, or an unsigned integer of its
// size for its bits (uint16_t for BF16, uint8_t for BOOL and the 8-bit floats). Packed types have
// no C++ type: use bytes().
template <typename T>
constexpr bool ElementIs(DType dtype) {
  switch (dtype) {
    case DType::kI8:
      return std::is_same_v<T, int8_t> || std::is_same_v<T, uint8_t>;
    case DType::kBool:
    case DType::kU8:
    case DType::kF8E5m2:
    case DType::kF8E4m3:
    case DType::kF8E8m0:
    case DType::kF8E4m3fnuz:
    case DType::kF8E5m2fnuz:
      return std::is_same_v<T, uint8_t>;
    case DType::kI16:
      return std::is_same_v<T, int16_t> || std::is_same_v<T, uint16_t>;
    case DType::kU16:
    case DType::kF16:
    case DType::kBf16:
      return std::is_same_v<T, uint16_t>;
    case DType::kI32:
      return std::is_same_v<T, int32_t> || std::is_same_v<T, uint32_t>;
    case DType::kF32:
      return std::is_same_v<T, float> || std::is_same_v<T, uint32_t>;
    case DType::kU32:
    case DType::kC32:
      return std::is_same_v<T, uint32_t>;
    case DType::kI64:
      return std::is_same_v<T, int64_t> || std::is_same_v<T, uint64_t>;
    case DType::kF64:
      return std::is_same_v<T, double> || std::is_same_v<T, uint64_t>;
    case DType::kU64:
    case DType::kC64:
      return std::is_same_v<T, uint64_t>;
    default:
      return false;
  }
}

}  // namespace internal

// A view of one tensor of a mapped model. Valid while a copy of its Model lives; owns nothing.
class Tensor {
 public:
  // `writable` says whether stores to `bytes` are allowed. Everything was checked: `bytes` lies in
  // the mapping and has the size that dtype, shape and strides give.
  Tensor(absl::string_view name, DType dtype, absl::string_view torch_type,
         absl::Span<const uint64_t> shape, absl::Span<const int64_t> strides,
         absl::Span<std::byte> bytes, uint64_t offset, bool writable)
      : name_(name),
        dtype_(dtype),
        torch_type_(torch_type),
        writable_(writable),
        shape_(shape),
        strides_(strides),
        bytes_(bytes),
        offset_(offset) {}
  // Another name of `stored`.
  Tensor(absl::string_view alias, const Tensor& stored) : Tensor(stored) {
    name_ = alias;
    alias_of_ = stored.name_;
  }

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
  absl::Span<const std::byte> bytes() const { return bytes_; }
  // First byte, counted from the first byte of the mapping.
  uint64_t offset() const { return offset_; }

  // For in-place changes, which stay private to this process. FAILED_PRECONDITION if the model is
  // mapped read-only.
  absl::StatusOr<absl::Span<std::byte>> mutable_bytes() const;

  // The elements in memory order. INVALID_ARGUMENT if T is not how an element looks (see
  // ElementIs), if the tensor is strided, or if its first byte is not aligned for T.
  template <typename T>
  absl::StatusOr<absl::Span<const T>> As() const {
    const absl::Status status = CheckTyped(internal::ElementIs<T>(dtype_), alignof(T));
    if (!status.ok()) {
      return status;
    }
    return absl::Span<const T>(reinterpret_cast<const T*>(bytes_.data()),
                               bytes_.size() / sizeof(T));
  }

 private:
  absl::Status CheckTyped(bool element_is, size_t alignment) const;

  absl::string_view name_;
  absl::string_view alias_of_;
  DType dtype_;
  absl::string_view torch_type_;
  bool writable_;
  absl::Span<const uint64_t> shape_;
  absl::Span<const int64_t> strides_;
  absl::Span<std::byte> bytes_;
  uint64_t offset_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_TENSOR_H_
