#include "common/dtype.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

namespace weightd {
namespace {

TEST(DTypeTest, NamesRoundTrip) {
  for (absl::string_view name :
       {"BOOL",    "U8",          "I8",          "U16",     "I16",     "U32", "I32",     "U64",
        "I64",     "F16",         "BF16",        "F32",     "F64",     "C64", "F8_E5M2", "F8_E4M3",
        "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4",  "C32",     "C128"}) {
    const std::optional<DType> dtype = DTypeFromName(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(DTypeName(*dtype), name);
  }
  EXPECT_FALSE(DTypeFromName("f32").has_value());
  EXPECT_FALSE(DTypeFromName("").has_value());
}

TEST(DTypeTest, BytesOfTensors) {
  EXPECT_EQ(TensorBytes(DType::kF32, {}), 4);
  EXPECT_EQ(TensorBytes(DType::kF32, {2, 3}), 24);
  EXPECT_EQ(TensorBytes(DType::kF32, {0, UINT64_MAX}), 0);
  EXPECT_EQ(TensorBytes(DType::kF4, {2, 1}), 1);
  EXPECT_EQ(TensorBytes(DType::kF6E2m3, {4}), 3);
}

TEST(DTypeTest, ComplexNumbersAreAlignedAsTheirParts) {
  EXPECT_EQ(DTypeAlignment(DType::kC32), 2);
  EXPECT_EQ(DTypeAlignment(DType::kC64), 4);
  EXPECT_EQ(DTypeAlignment(DType::kC128), 8);
  EXPECT_EQ(TensorBytes(DType::kC32, {3}), 12);
  EXPECT_EQ(TensorBytes(DType::kC128, {3}), 48);
}

TEST(DTypeTest, NoBytesForOverflowOrBrokenBytes) {
  EXPECT_FALSE(TensorBytes(DType::kF4, {3}).has_value());
  EXPECT_FALSE(TensorBytes(DType::kF4, {}).has_value());
  EXPECT_FALSE(TensorBytes(DType::kU8, {UINT64_MAX, 2}).has_value());
  EXPECT_FALSE(TensorBytes(DType::kF64, {UINT64_MAX / 8}).has_value());
}

}  // namespace
}  // namespace weightd
