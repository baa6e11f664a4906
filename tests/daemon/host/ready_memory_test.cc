// Memory that a tier makes ready before anybody needs it.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/host/ready_keeper.h"

namespace weightd::host {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kReady = 80 * kMiB;

class ReadyMemoryTest : public testing::Test {
 protected:
  void Start(uint64_t budget) {
    HostTierOptions options;
    options.budget = budget;
    options.ready = kReady;
    options.available_memory = [this]() -> absl::StatusOr<uint64_t> { return available_.load(); };
    tier_ = std::make_shared<HostTier>(std::move(options));
  }

  void PrepareAll() {
    while (tier_->PrepareReady()) {
    }
  }

  WritableSegment Segment(uint64_t size) {
    return WritableSegment::Create("test", size, tier_->Reserve(size).value()).value();
  }

  std::atomic<uint64_t> available_ = uint64_t{1} << 50;
  std::shared_ptr<HostTier> tier_;
};

uint64_t PresentBytes(const WritableSegment& segment) {
  std::vector<unsigned char> pages(segment.bytes().size() / kPageBytes);
  EXPECT_EQ(mincore(segment.bytes().data(), segment.bytes().size(), pages.data()), 0);
  return kPageBytes * static_cast<uint64_t>(std::count_if(
                          pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

TEST_F(ReadyMemoryTest, ASegmentIsMadeOfItWhateverItsSize) {
  Start(400 * kMiB);
  for (const uint64_t size : {kReady, kReady - 10 * kMiB, kReady + 10 * kMiB}) {
    PrepareAll();
    EXPECT_EQ(tier_->usage().ready, kReady);
    WritableSegment segment = Segment(size);
    EXPECT_EQ(segment.bytes().size(), size);
    EXPECT_EQ(PresentBytes(segment), std::min(size, kReady));
    EXPECT_EQ(tier_->usage().ready, 0u);
    EXPECT_TRUE(std::all_of(segment.bytes().begin(), segment.bytes().end(),
                            [](std::byte byte) { return byte == std::byte{0}; }));
    EXPECT_EQ(std::move(segment).Seal().value()->size(), size);
    EXPECT_EQ(tier_->usage().resident, 0u);
  }
}

TEST_F(ReadyMemoryTest, SmallSegmentsLeaveItForLargeOnes) {
  Start(400 * kMiB);
  PrepareAll();
  EXPECT_EQ(PresentBytes(Segment(kMiB)), 0u);
  auto room = tier_->Reserve(kReady);
  ASSERT_TRUE(room.ok());
  room->Settle();  // for memory that is no segment's
  EXPECT_EQ(tier_->usage().ready, kReady);
}

TEST_F(ReadyMemoryTest, WhatIsReadyInPartHelpsInPart) {
  Start(400 * kMiB);
  EXPECT_TRUE(tier_->PrepareReady());
  const uint64_t ready = tier_->usage().ready;
  EXPECT_GT(ready, 0u);
  EXPECT_LT(ready, kReady);
  EXPECT_EQ(PresentBytes(Segment(kReady)), ready);
}

TEST_F(ReadyMemoryTest, NothingIsMadeReadyWhileALoadRunsOrWithoutRoom) {
  Start(kReady + 10 * kMiB);
  {
    const auto load = tier_->Reserve(kMiB);
    EXPECT_FALSE(tier_->PrepareReady());
  }
  {
    auto resident = tier_->Reserve(11 * kMiB);
    resident->Settle();
    EXPECT_FALSE(tier_->PrepareReady()) << "the budget has no room";
  }
  available_ = kGiB + kReady - 1;
  EXPECT_FALSE(tier_->PrepareReady()) << "the machine has no room";
  available_ = kGiB + kReady;
  EXPECT_TRUE(tier_->PrepareReady());
}

TEST_F(ReadyMemoryTest, ItGivesWayToOtherProcesses) {
  Start(400 * kMiB);
  PrepareAll();
  available_ = kGiB / 2;
  EXPECT_FALSE(tier_->PrepareReady());
  EXPECT_EQ(tier_->usage().ready, kReady) << "it is not made again and again";
  available_ = kGiB / 2 - 1;
  EXPECT_FALSE(tier_->PrepareReady());
  EXPECT_EQ(tier_->usage().ready, 0u);
}

TEST_F(ReadyMemoryTest, RoomThatIsNoSegmentsDoesNotCountOnItTwice) {
  Start(kGiB);
  PrepareAll();
  available_ = 10 * kMiB;
  auto room = tier_->Reserve(kReady + 10 * kMiB);
  ASSERT_TRUE(room.ok());
  room->Settle();
  EXPECT_EQ(tier_->usage().ready, 0u) << "the room was granted for the sake of this memory";
}

TEST_F(ReadyMemoryTest, ItGivesWayToModels) {
  Start(kReady + 10 * kMiB);
  PrepareAll();
  // Beside the small one it no longer fits into the budget.
  const auto small = tier_->Reserve(20 * kMiB);
  EXPECT_TRUE(small.ok());
  EXPECT_EQ(tier_->usage().ready, 0u);
}

TEST_F(ReadyMemoryTest, ItCountsAsFreeForWhoeverTakesItAndAsTakenForOthers) {
  Start(kGiB);
  PrepareAll();
  available_ = 10 * kMiB;
  EXPECT_TRUE(tier_->Reserve(kReady + 10 * kMiB).ok());
  available_ = uint64_t{1} << 50;
  PrepareAll();
  // Too small to take it: it is freed, and that shows in what is available.
  available_ = 10 * kMiB;
  EXPECT_EQ(ReasonOf(tier_->Reserve(20 * kMiB).status()), Reason::kHostMemoryShort);
  EXPECT_EQ(tier_->usage().ready, 0u);
}

TEST_F(ReadyMemoryTest, PagesThatAreThereAreNotPromisedOnceMore) {
  Start(kGiB);
  PrepareAll();
  auto room = tier_->Reserve(kReady);
  available_ = 100 * kMiB;  // all of it: the load in flight takes no more
  EXPECT_TRUE(tier_->Reserve(100 * kMiB).ok());
  WritableSegment segment = WritableSegment::Create("test", kReady, *std::move(room)).value();
  EXPECT_TRUE(tier_->Reserve(100 * kMiB).ok());
  segment.CountWritten(kReady);
  EXPECT_TRUE(tier_->Reserve(100 * kMiB).ok());
  EXPECT_FALSE(tier_->Reserve(101 * kMiB).ok());
}

TEST_F(ReadyMemoryTest, TheKeeperKeepsItReadyAndCanBeStopped) {
  Start(400 * kMiB);
  auto keeper = std::make_unique<ReadyKeeper>(tier_);
  for (int round = 0; round < 2; ++round) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (tier_->usage().ready < kReady) {
      ASSERT_LT(absl::Now(), deadline);
      std::this_thread::yield();
    }
    EXPECT_EQ(PresentBytes(Segment(kReady)), kReady);
  }
  keeper.reset();
}

}  // namespace
}  // namespace weightd::host
