#include "absl/status/statusor.h"
#include "common/status.h"
#include "daemon/cache/cache.h"
#include "gtest/gtest.h"
#include "tests/daemon/cache/gpu_cache_fixture.h"

namespace weightd::cache {
namespace {

class GpuHandlesTest : public GpuCacheTest {};

TEST_F(GpuHandlesTest, CopiesExportedOtherwiseThanPlacedAreMadeAnew) {
  for (const bool host : {true, false}) {
    Placement placement = {.host = host, .gpus = {kGpu}};
    StartWithGpus(4, Placed("m", placement));
    Put("m", 4);
    const int loads = store_.loads();
    ASSERT_TRUE(Preload("m")->Await().ok());
    placement.handles = device::Handles::kLegacy;
    cache_->SetPlacements({{Named("m").ToString(), placement}});
    const Event dropped = trail_->Await(EventKind::kGpuDropped);
    EXPECT_EQ(dropped.gpu, kGpu);
    EXPECT_EQ(ReasonOf(dropped.error), Reason::kPlacementDiffers) << dropped.error;
    // The placement is kept without being asked.
    trail_->Await(EventKind::kGpuCopied, 2);
    const absl::StatusOr<Grant> legacy = AcquireOn({.gpu = kGpu, .legacy = true}, "m")->Await();
    ASSERT_TRUE(legacy.ok()) << legacy.status();
    EXPECT_FALSE(legacy->device->legacy_handle.empty());
    AwaitUsedGranules(kGpu, 1);
    EXPECT_EQ(store_.loads(), loads + (host ? 1 : 2));
    Stop();
  }
}

TEST_F(GpuHandlesTest, WhatIsLeasedStaysAsItWasExportedUntilItsClientsEnd) {
  for (const bool host : {true, false}) {
    Placement placement = {.host = host, .gpus = {kGpu}, .handles = device::Handles::kLegacy};
    StartWithGpus(4, Placed("m", placement));
    Put("m", 4);
    const absl::StatusOr<Grant> legacy = AcquireOn({.gpu = kGpu, .legacy = true}, "m")->Await();
    ASSERT_TRUE(legacy.ok()) << legacy.status();
    placement.handles = device::Handles::kDescriptor;
    cache_->SetPlacements({{Named("m").ToString(), placement}});
    EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "m")->Await().status()), Reason::kPlacementDiffers);
    EXPECT_TRUE(AcquireOn(kGpu, "m", /*is_private=*/true, kBob)->Await().ok());
    EXPECT_EQ(trail_->Count(EventKind::kGpuDropped), 0);
    cache_->EndSession(kBob);
    Release(legacy->lease);
    EXPECT_EQ(trail_->Count(EventKind::kGpuDropped), 1);
    trail_->Await(EventKind::kGpuCopied, 2);
    EXPECT_EQ(cache_->Claim(kAlice, GrantOn(kGpu, "m").lease)->size(), 2u);
    Stop();
  }
}

TEST_F(GpuHandlesTest, ACopyWhosePlacementChangesOnTheWayIsMadeAnew) {
  Placement placement = {.gpus = {kGpu}};
  StartWithGpus(4, Placed("m", placement));
  Put("m", 4);
  gpus_->CloseGate();
  const auto loading = Preload("m");
  ASSERT_TRUE(gpus_->AwaitGate());
  placement.handles = device::Handles::kLegacy;
  cache_->SetPlacements({{Named("m").ToString(), placement}});
  gpus_->OpenGate();
  loading->Await().IgnoreError();
  trail_->Await(EventKind::kGpuCopied);
  const absl::StatusOr<Grant> legacy = AcquireOn({.gpu = kGpu, .legacy = true}, "m")->Await();
  ASSERT_TRUE(legacy.ok()) << legacy.status();
  EXPECT_FALSE(legacy->device->legacy_handle.empty());
}

}  // namespace
}  // namespace weightd::cache
