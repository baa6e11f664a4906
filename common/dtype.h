#ifndef WEIGHTD_COMMON_DTYPE_H_
#define WEIGHTD_COMMON_DTYPE_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weightd {

// Element types of tensors. The values are those of DType in proto/weightd/v1/tensor_index.proto,
// the names those of the safetensors format, which has all but C32 and C128.
enum class DType : uint8_t {
  kBool = 1,
  kU8 = 2,
  kI8 = 3,
  kU16 = 4,
  kI16 = 5,
  kU32 = 6,
  kI32 = 7,
  kU64 = 8,
  kI64 = 9,
  kF16 = 10,
  kBf16 = 11,
  kF32 = 12,
  kF64 = 13,
  kC64 = 14,
  kC32 = 15,
  kC128 = 16,
  kF8E5m2 = 20,
  kF8E4m3 = 21,
  kF8E8m0 = 22,
  kF8E4m3fnuz = 23,
  kF8E5m2fnuz = 24,
  kF6E2m3 = 30,
  kF6E3m2 = 31,
  kF4 = 32,
};

// "F32", "BF16", "F8_E4M3", …
absl::string_view DTypeName(DType dtype);
std::optional<DType> DTypeFromName(absl::string_view name);

// Bits of one element: 4 and 6 for the packed types.
uint32_t DTypeBits(DType dtype);

// The address alignment that typed access needs, in bytes; 1 for the packed types.
uint32_t DTypeAlignment(DType dtype);

// Bytes of a C-contiguous tensor; nothing if a product overflows 64 bits or the bits are no whole
// bytes. A scalar has an empty shape and one element.
std::optional<uint64_t> TensorBytes(DType dtype, absl::Span<const uint64_t> shape);

}  // namespace weightd

#endif  // WEIGHTD_COMMON_DTYPE_H_
