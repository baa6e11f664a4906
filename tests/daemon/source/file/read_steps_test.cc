#include "daemon/source/file/read_steps.h"

#include <gtest/gtest.h>

namespace weightd::source {
namespace {

// A destination at a chosen offset in its page.
std::byte* At(uint64_t address) {
  alignas(kPageBytes) static std::byte memory[6 << 20];
  return memory + address;
}

std::vector<ReadStep> Plan(ByteRange range, std::byte* destination, uint32_t alignment) {
  std::vector<ReadStep> steps;
  PlanSteps(0, 0, range, destination, alignment, steps);
  return steps;
}

TEST(ReadStepsTest, ACongruentDestinationTakesAllButRaggedEnds) {
  const std::vector<ReadStep> steps = Plan({100, 3 * kPageBytes + 5}, At(100), kPageBytes);
  ASSERT_EQ(steps.size(), 3);
  EXPECT_TRUE(steps[0].bounced);
  EXPECT_EQ(steps[0].wanted, (ByteRange{100, kPageBytes}));
  EXPECT_EQ(steps[0].read, (ByteRange{0, kPageBytes}));
  EXPECT_FALSE(steps[1].bounced);
  EXPECT_EQ(steps[1].read, (ByteRange{kPageBytes, 3 * kPageBytes}));
  EXPECT_EQ(steps[1].destination, At(kPageBytes));
  EXPECT_TRUE(steps[2].bounced);
  EXPECT_EQ(steps[2].wanted, (ByteRange{3 * kPageBytes, 3 * kPageBytes + 5}));
}

TEST(ReadStepsTest, AnIncongruentDestinationIsBounced) {
  for (const ReadStep& step : Plan({0, 4ULL * kStepBytes}, At(8), kPageBytes)) {
    EXPECT_TRUE(step.bounced);
  }
}

TEST(ReadStepsTest, ThePageCacheNeedsNoBounces) {
  const std::vector<ReadStep> steps = Plan({3, kStepBytes + 10}, At(8), 1);
  ASSERT_EQ(steps.size(), 2);
  EXPECT_FALSE(steps[0].bounced);
  EXPECT_FALSE(steps[1].bounced);
}

TEST(ReadStepsTest, StepsCoverTheRangeOnceAlignedAndBounded) {
  for (const uint64_t begin : {0, 1, 511, 4095, 4096, 1 << 20, (1 << 20) + 1}) {
    for (const uint64_t size : {0, 1, 4095, 4096, 4097, 1 << 20, (3 << 20) + 17}) {
      for (const uint64_t shift : {0, 1, 512}) {
        uint64_t next = begin;
        for (const ReadStep& step : Plan({begin, begin + size}, At(begin + shift), kPageBytes)) {
          EXPECT_EQ(step.wanted.begin, next);
          EXPECT_EQ(step.destination, At(next + shift));
          EXPECT_TRUE(step.read.Contains(step.wanted));
          EXPECT_EQ(step.read.begin % kPageBytes, 0);
          EXPECT_EQ(step.read.size() % kPageBytes, 0);
          EXPECT_LE(step.read.size(), kStepBytes);
          next = step.wanted.end;
        }
        EXPECT_EQ(next, begin + size);
      }
    }
  }
}

}  // namespace
}  // namespace weightd::source
