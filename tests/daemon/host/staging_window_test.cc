#include "daemon/host/staging_window.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "common/byte_range.h"
#include "common/mapping.h"
#include "common/status.h"
#include "daemon/host/host_tier.h"

namespace weightd::host {
namespace {

class StagingWindowTest : public testing::Test {
 protected:
  StagingWindowTest() {
    HostTierOptions options;
    options.budget = 64 * kPageBytes;
    options.available_memory = []() -> absl::StatusOr<uint64_t> { return uint64_t{1} << 50; };
    tier_ = std::make_shared<HostTier>(std::move(options));
  }

  absl::StatusOr<StagingWindow> Create(uint64_t stream_bytes, uint64_t bytes) {
    return StagingWindow::Create("test", stream_bytes, bytes, *tier_->Reserve(bytes));
  }

  std::shared_ptr<HostTier> tier_;
};

TEST_F(StagingWindowTest, SlidesOverAStreamThatIsLargerThanTheMachine) {
  constexpr uint64_t kStream = uint64_t{1} << 40;
  auto window = Create(kStream, 4 * kPageBytes);
  ASSERT_TRUE(window.ok()) << window.status();
  EXPECT_EQ(tier_->usage().loading, 4 * kPageBytes);
  const auto fd = window->OpenForDevice();
  const auto device = Mapping::Map(fd->get(), window->bytes(), Mapping::Access::kSharedWritable);
  ASSERT_TRUE(device.ok()) << device.status();
  for (uint64_t begin = 0; begin < 40 * kPageBytes; begin += 1000) {
    const uint64_t last = begin + window->bytes() - 1;
    window->begin()[last] = std::byte{7};
    window->begin()[begin] = std::byte{static_cast<uint8_t>(begin / 1000)};
    EXPECT_EQ(device->data()[begin % window->bytes()], window->begin()[begin]);
    EXPECT_EQ(device->data()[last % window->bytes()], std::byte{7});
    ASSERT_TRUE(window->SlideTo(begin + 1000).ok());
    EXPECT_EQ(window->window(), (ByteRange{begin + 1000, begin + 1000 + window->bytes()}));
  }
}

TEST_F(StagingWindowTest, BytesStayWhileTheWindowHasThem) {
  auto window = Create(20 * kPageBytes, 4 * kPageBytes);
  ASSERT_TRUE(window.ok());
  memset(window->begin() + 3 * kPageBytes, 3, kPageBytes);
  ASSERT_TRUE(window->SlideTo(3 * kPageBytes).ok());
  memset(window->begin() + 4 * kPageBytes, 4, 3 * kPageBytes);
  EXPECT_EQ(window->begin()[3 * kPageBytes], std::byte{3});
  EXPECT_EQ(window->begin()[4 * kPageBytes - 1], std::byte{3});
  // All of it at once.
  ASSERT_TRUE(window->SlideTo(7 * kPageBytes).ok());
  memset(window->begin() + 7 * kPageBytes, 5, 4 * kPageBytes);
  EXPECT_EQ(window->begin()[8 * kPageBytes], std::byte{5});
}

TEST_F(StagingWindowTest, ReachesTheEndOfTheStreamAndNoFurther) {
  auto window = Create(6 * kPageBytes + 10, 4 * kPageBytes);
  ASSERT_TRUE(window.ok());
  ASSERT_TRUE(window->SlideTo(4 * kPageBytes).ok());
  window->begin()[6 * kPageBytes + 9] = std::byte{1};
  ASSERT_TRUE(window->SlideTo(6 * kPageBytes + 10).ok());
  EXPECT_EQ(ReasonOf(window->SlideTo(kPageBytes)), Reason::kInternal) << "backwards";
  EXPECT_EQ(ReasonOf(window->SlideTo(100 * kPageBytes)), Reason::kInternal) << "over bytes";
}

TEST_F(StagingWindowTest, MayBeLargerThanTheStream) {
  auto window = Create(0, 4 * kPageBytes);
  ASSERT_TRUE(window.ok()) << window.status();
  EXPECT_TRUE(window->Populate({0, 4 * kPageBytes}).ok());
  window->begin()[0] = std::byte{1};
}

TEST_F(StagingWindowTest, GivesItsMemoryBack) {
  {
    const auto window = Create(20 * kPageBytes, 4 * kPageBytes);
  }
  EXPECT_EQ(tier_->usage().loading, 0u);
  EXPECT_EQ(
      ReasonOf(
          StagingWindow::Create("test", 1, 2 * kPageBytes, *tier_->Reserve(kPageBytes)).status()),
      Reason::kInternal);
  EXPECT_EQ(tier_->usage().loading, 0u);
}

}  // namespace
}  // namespace weightd::host
