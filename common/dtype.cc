#include "common/dtype.h"

namespace weightd {
namespace {

struct Row {
  DType dtype;
  absl::string_view name;
  uint32_t bits;
};

constexpr Row kRows[] = {
    {DType::kBool, "BOOL", 8},
    {DType::kU8, "U8", 8},
    {DType::kI8, "I8", 8},
    {DType::kU16, "U16", 16},
    {DType::kI16, "I16", 16},
    {DType::kU32, "U32", 32},
    {DType::kI32, "I32", 32},
    {DType::kU64, "U64", 64},
    {DType::kI64, "I64", 64},
    {DType::kF16, "F16", 16},
    {DType::kBf16, "BF16", 16},
    {DType::kF32, "F32", 32},
    {DType::kF64, "F64", 64},
    {DType::kC64, "C64", 64},
    {DType::kC32, "C32", 32},
    {DType::kC128, "C128", 128},
    {DType::kF8E5m2, "F8_E5M2", 8},
    {DType::kF8E4m3, "F8_E4M3", 8},
    {DType::kF8E8m0, "F8_E8M0", 8},
    {DType::kF8E4m3fnuz, "F8_E4M3FNUZ", 8},
    {DType::kF8E5m2fnuz, "F8_E5M2FNUZ", 8},
    {DType::kF6E2m3, "F6_E2M3", 6},
    {DType::kF6E3m2, "F6_E3M2", 6},
    {DType::kF4, "F4", 4},
};

const Row& RowOf(DType dtype) {
  for (const Row& row : kRows) {
    if (row.dtype == dtype) {
      return row;
    }
  }
  __builtin_unreachable();
}

}  // namespace

absl::string_view DTypeName(DType dtype) { return RowOf(dtype).name; }

std::optional<DType> DTypeFromName(absl::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) {
      return row.dtype;
    }
  }
  return std::nullopt;
}

uint32_t DTypeBits(DType dtype) { return RowOf(dtype).bits; }

uint32_t DTypeAlignment(DType dtype) {
  uint32_t bits = DTypeBits(dtype);
  if (dtype == DType::kC32 || dtype == DType::kC64 || dtype == DType::kC128) {
    bits /= 2;
  }
  return bits <= 8 ? 1 : bits / 8;
}

std::optional<uint64_t> TensorBytes(DType dtype, absl::Span<const uint64_t> shape) {
  uint64_t bits = DTypeBits(dtype);
  uint64_t elements = 1;
  for (uint64_t extent : shape) {
    if (__builtin_mul_overflow(elements, extent, &elements)) {
      return std::nullopt;
    }
  }
  if (__builtin_mul_overflow(bits, elements, &bits) || bits % 8 != 0) {
    return std::nullopt;
  }
  return bits / 8;
}

}  // namespace weightd
