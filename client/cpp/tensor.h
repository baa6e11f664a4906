#ifndef WEIGHTD_CLIENT_CPP_TENSOR_H_
#define WEIGHTD_CLIENT_CPP_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cpp/tensor_info.h"
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
class Tensor : public TensorInfo {
 public:
  // Where tensors lie: the whole mapping, and whether stores to it are allowed.
  struct Memory {
    absl::Span<std::byte> bytes;
    bool writable = false;
  };

  Tensor(const TensorInfo& info, const Memory& memory)
      : TensorInfo(info),
        writable_(memory.writable),
        bytes_(memory.bytes.subspan(info.offset(), info.nbytes())) {}
  // Another name of `stored`.
  Tensor(absl::string_view alias, const Tensor& stored) : Tensor(stored) { BecomeAlias(alias); }

  absl::Span<const std::byte> bytes() const { return bytes_; }

  // For in-place changes, which stay private to this process. FAILED_PRECONDITION if the model is
  // mapped read-only.
  absl::StatusOr<absl::Span<std::byte>> mutable_bytes() const;

  // The elements in memory order. INVALID_ARGUMENT if T is not how an element looks (see
  // ElementIs), if the tensor is strided, or if its first byte is not aligned for T.
  template <typename T>
  absl::StatusOr<absl::Span<const T>> As() const {
    const absl::Status status = CheckTyped(internal::ElementIs<T>(dtype()), alignof(T));
    if (!status.ok()) {
      return status;
    }
    return absl::Span<const T>(reinterpret_cast<const T*>(bytes_.data()),
                               bytes_.size() / sizeof(T));
  }

 private:
  absl::Status CheckTyped(bool element_is, size_t alignment) const;

  bool writable_;
  absl::Span<std::byte> bytes_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_TENSOR_H_
