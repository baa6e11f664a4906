#include "daemon/convert/cast.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace weightd::convert {
namespace {

template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

template <typename T>
void Store(T value, std::byte* at) {
  std::memcpy(at, &value, sizeof(value));
}

// BF16 is the upper half of F32. Adding half of the last place, or just less where that is even,
// rounds; the carry is right also where it changes the exponent.
uint16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) {
    return static_cast<uint16_t>(bits >> 16) | 0x40;  // quiet
  }
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

float OfBf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// F16 has 5 bits of exponent and 10 of fraction; F32 has 8 and 23.
uint16_t ToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t size = bits & 0x7FFFFFFF;
  constexpr uint32_t kInfinity = 0x7F800000;
  constexpr uint32_t kTooLarge = 0x47800000;     // 2^16
  constexpr uint32_t kLeastNormal = 0x38800000;  // 2^-14
  if (size > kInfinity) {
    return sign | 0x7E00;
  }
  if (size >= kTooLarge) {
    return sign | 0x7C00;
  }
  if (size < kLeastNormal) {
    // A number in [0.5, 1) has the last place of a subnormal F16, 2^-24: the sum is rounded to it.
    const float sum = std::bit_cast<float>(size) + 0.5F;
    return sign |
           static_cast<uint16_t>(std::bit_cast<uint32_t>(sum) - std::bit_cast<uint32_t>(0.5F));
  }
  constexpr uint32_t kBiases = (127 - 15) << 23;
  return sign | static_cast<uint16_t>((size - kBiases + 0xFFF + ((size >> 13) & 1)) >> 13);
}

float OfF16(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1F;
  const uint32_t fraction = bits & 0x3FF;
  if (exponent == 0) {
    const float size = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(size));
  }
  const uint32_t wide = exponent == 0x1F ? 0xFF : exponent + (127 - 15);
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

// To F32, but so that rounding once more gives what rounding once would: what is lost is kept in
// the last bit ("round to odd").
float ToOdd(double value) {
  const auto near = static_cast<float>(value);
  if (std::isnan(value) || static_cast<double>(near) == value) {
    return near;
  }
  uint32_t bits = std::bit_cast<uint32_t>(near);
  if (std::fabs(static_cast<double>(near)) > std::fabs(value)) {
    --bits;
  }
  return std::bit_cast<float>(bits | 1);
}

float Read(DType dtype, const std::byte* at) {
  switch (dtype) {
    case DType::kF64:
      return ToOdd(Load<double>(at));
    case DType::kF32:
      return Load<float>(at);
    case DType::kF16:
      return OfF16(Load<uint16_t>(at));
    default:
      return OfBf16(Load<uint16_t>(at));
  }
}

void Write(DType dtype, float value, std::byte* at) {
  switch (dtype) {
    case DType::kF64:
      return Store(static_cast<double>(value), at);
    case DType::kF32:
      return Store(value, at);
    case DType::kF16:
      return Store(ToF16(value), at);
    default:
      return Store(ToBf16(value), at);
  }
}

}  // namespace

bool IsCastable(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 ||
         dtype == DType::kBf16;
}

uint64_t CastBytes(DType from, DType to, uint64_t bytes) {
  return bytes / (DTypeBits(from) / 8) * (DTypeBits(to) / 8);
}

void Cast(DType from, DType to, absl::Span<const std::byte> in, absl::Span<std::byte> out) {
  const size_t in_bytes = DTypeBits(from) / 8;
  const size_t out_bytes = DTypeBits(to) / 8;
  const size_t count = in.size() / in_bytes;
  if (from == DType::kF32 && to == DType::kBf16) {  // what is asked for most, in a loop of its own
    for (size_t i = 0; i < count; ++i) {
      Store(ToBf16(Load<float>(in.data() + i * sizeof(float))), out.data() + i * sizeof(uint16_t));
    }
    return;
  }
  if (from == DType::kF64 && to == DType::kF32) {
    for (size_t i = 0; i < count; ++i) {
      Store(static_cast<float>(Load<double>(in.data() + i * sizeof(double))),
            out.data() + i * sizeof(float));
    }
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    Write(to, Read(from, in.data() + i * in_bytes), out.data() + i * out_bytes);
  }
}

}  // namespace weightd::convert
