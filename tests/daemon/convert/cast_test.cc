// Floating-point types cast into one another.

#include "daemon/convert/cast.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "common/dtype.h"

namespace weightd::convert {
namespace {

template <typename To, typename From>
To CastOne(DType from, DType to, From value) {
  To cast{};
  Cast(from, to, {reinterpret_cast<const std::byte*>(&value), sizeof(value)},
       {reinterpret_cast<std::byte*>(&cast), sizeof(cast)});
  return cast;
}

uint16_t ToBf16(float value) { return CastOne<uint16_t>(DType::kF32, DType::kBf16, value); }
uint16_t ToF16(float value) { return CastOne<uint16_t>(DType::kF32, DType::kF16, value); }

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(CastTest, F32ToBf16RoundsToTheNearestAndToEven) {
  const std::vector<std::pair<float, uint16_t>> cases = {
      {0.0F, 0x0000},
      {-0.0F, 0x8000},
      {1.0F, 0x3F80},
      {-2.0F, 0xC000},
      {std::bit_cast<float>(0x3F808000U), 0x3F80},  // half way, to even
      {std::bit_cast<float>(0x3F818000U), 0x3F82},
      {std::bit_cast<float>(0x3F808001U), 0x3F81},
      {std::bit_cast<float>(0x3F807FFFU), 0x3F80},
      {std::bit_cast<float>(0x3FFFFFFFU), 0x4000},  // the carry changes the exponent
      {std::numeric_limits<float>::max(), 0x7F80},
      {kInfinity, 0x7F80},
      {-kInfinity, 0xFF80},
      {std::numeric_limits<float>::denorm_min(), 0x0000},
  };
  for (const auto& [value, expected] : cases) {
    EXPECT_EQ(ToBf16(value), expected) << value;
  }
}

TEST(CastTest, F32ToF16RoundsToTheNearestAndToEven) {
  const std::vector<std::pair<float, uint16_t>> cases = {
      {0.0F, 0x0000},
      {-0.0F, 0x8000},
      {1.0F, 0x3C00},
      {65504.0F, 0x7BFF},
      {65519.9F, 0x7BFF},
      {65520.0F, 0x7C00},
      {1e30F, 0x7C00},
      {-kInfinity, 0xFC00},
      {1.0F + 0x1p-11F, 0x3C00},  // half way, to even
      {1.0F + 3 * 0x1p-11F, 0x3C02},
      {1.0F + 0x1p-11F + 0x1p-20F, 0x3C01},
      {0x1p-14F, 0x0400},
      {0x1p-14F - 0x1p-25F, 0x0400},  // rounds up to the least normal number
      {0x1p-24F, 0x0001},
      {0x1p-25F, 0x0000},  // half way, to even
      {3 * 0x1p-25F, 0x0002},
      {0x1.8p-25F, 0x0001},
      {-0x1p-24F, 0x8001},
  };
  for (const auto& [value, expected] : cases) {
    EXPECT_EQ(ToF16(value), expected) << value;
  }
}

TEST(CastTest, NansStayNans) {
  const float nan = std::bit_cast<float>(0x7F800001U);
  EXPECT_GT(ToBf16(nan) & 0x7F, 0);
  EXPECT_EQ(ToBf16(nan) & 0x7F80, 0x7F80);
  EXPECT_GT(ToF16(nan) & 0x3FF, 0);
  EXPECT_TRUE(std::isnan(CastOne<float>(DType::kF16, DType::kF32, uint16_t{0x7C01})));
  EXPECT_TRUE(std::isnan(CastOne<float>(DType::kBf16, DType::kF32, uint16_t{0x7FC0})));
}

TEST(CastTest, WhatIsWidenedComesBack) {
  for (uint32_t bits = 0; bits <= UINT16_MAX; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    for (const DType dtype : {DType::kF16, DType::kBf16}) {
      const auto wide = CastOne<float>(dtype, DType::kF32, half);
      if (!std::isnan(wide)) {
        ASSERT_EQ(CastOne<uint16_t>(DType::kF32, dtype, wide), half);
        ASSERT_EQ(CastOne<uint16_t>(DType::kF64, dtype, static_cast<double>(wide)), half);
      }
    }
  }
}

TEST(CastTest, F64IsRoundedOnce) {
  // Rounding to F32 first would lose what lies above the half.
  const double above = 1.0 + 0x1p-8 + 0x1p-40;
  EXPECT_EQ(CastOne<uint16_t>(DType::kF64, DType::kBf16, above), 0x3F81);
  EXPECT_EQ(CastOne<uint16_t>(DType::kF64, DType::kBf16, -above), 0xBF81);
  const double below = 1.0 + 3 * 0x1p-8 - 0x1p-40;
  EXPECT_EQ(CastOne<uint16_t>(DType::kF64, DType::kBf16, below), 0x3F81);
  EXPECT_EQ(CastOne<uint16_t>(DType::kF64, DType::kF16, 1e300), 0x7C00);
  EXPECT_EQ(CastOne<uint16_t>(DType::kF64, DType::kF16, 1e-300), 0x0000);
  EXPECT_EQ(CastOne<float>(DType::kF64, DType::kF32, 0.1), 0.1F);
}

TEST(CastTest, OnlyFloatingPointNumbersAreCast) {
  EXPECT_TRUE(IsCastable(DType::kF64));
  EXPECT_TRUE(IsCastable(DType::kBf16));
  EXPECT_FALSE(IsCastable(DType::kC64));
  EXPECT_FALSE(IsCastable(DType::kF8E4m3));
  EXPECT_FALSE(IsCastable(DType::kI32));
}

}  // namespace
}  // namespace weightd::convert
