#include "common/gpu_id.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"

namespace weightd {
namespace {

constexpr const char* kText = "GPU-0123abcd-4567-89ef-0011-2233445566ff";

TEST(GpuIdTest, ReadsWhatNvidiaSmiPrints) {
  const GpuId id = *GpuId::FromText(kText);
  EXPECT_EQ(id.ToText(), kText);
  EXPECT_EQ(*GpuId::FromText("MIG-0123abcd-4567-89ef-0011-2233445566ff"), id);
  EXPECT_EQ(*GpuId::FromText("0123ABCD-4567-89EF-0011-2233445566FF"), id);
}

TEST(GpuIdTest, BytesAreInTheOrderOfTheText) {
  const GpuId id = *GpuId::FromText(kText);
  EXPECT_EQ(id.ToBytes().substr(0, 4), "\x01\x23\xab\xcd");
  EXPECT_EQ(*GpuId::FromBytes(id.ToBytes()), id);
  EXPECT_LT(GpuId(), id);
}

TEST(GpuIdTest, RefusesAllElse) {
  for (const std::string text :
       {"", "0", "GPU-", "GPU-0123abcd", "GPU-0123abcd-4567-89ef-0011-2233445566f",
        "GPU-0123abcd-4567-89ef-0011-2233445566fg", "GPU-0123abcd_4567-89ef-0011-2233445566ff",
        "GPU-GPU-0123abcd-4567-89ef-0011-2233445566ff", "0123abcd-4567-89ef-0011-2233445566ff "}) {
    EXPECT_EQ(ReasonOf(GpuId::FromText(text).status()), Reason::kInvalidArgument) << text;
  }
  EXPECT_FALSE(GpuId::FromBytes("").ok());
  EXPECT_FALSE(GpuId::FromBytes(std::string(17, 'x')).ok());
}

}  // namespace
}  // namespace weightd
