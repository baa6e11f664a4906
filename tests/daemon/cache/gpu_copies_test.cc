#include <string>
#include <vector>

#include "common/status.h"
#include "tests/daemon/cache/gpu_cache_fixture.h"

namespace weightd::cache {
namespace {

class GpuCopiesTest : public GpuCacheTest {};

TEST_F(GpuCopiesTest, AResidentModelIsCopiedOnceForAll) {
  StartWithGpus(4);
  Put("m", 4);
  Load("m");
  gpus_->CloseGate();
  const auto first = AcquireOn(kGpu, "m");
  const auto second = AcquireOn(kGpu, "m", /*is_private=*/false, kBob);
  ASSERT_TRUE(gpus_->AwaitGate());
  gpus_->OpenGate();
  const absl::StatusOr<Grant> granted = first->Await();
  ASSERT_TRUE(granted.ok()) << granted.status();
  ASSERT_TRUE(second->Await().ok());
  ASSERT_TRUE(granted->device.has_value());
  EXPECT_EQ(granted->device->gpu, kGpu);
  EXPECT_EQ(granted->device->bytes, kGranule);
  EXPECT_FALSE(granted->device->is_private);
  EXPECT_TRUE(GrantOn(kGpu, "m").lease != LeaseId());
  EXPECT_EQ(gpus_->uploads(), 1u);
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_EQ(trail_->Await(EventKind::kGpuCopied).gpu, kGpu);
  const std::vector<GpuCopySnapshot> copies = cache_->Model(Named("m"))->copies;
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].leases, 3u);
}

TEST_F(GpuCopiesTest, ALoadForADeviceUploadsAsItGoes) {
  StartWithGpus(4);
  Put("m", 4, /*revision=*/7);
  const Grant grant = GrantOn(kGpu, "m");
  EXPECT_EQ(gpus_->uploads(), 1u);
  EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
  EXPECT_TRUE(IsResident("m"));
  const auto handles = cache_->Claim(kAlice, grant.lease);
  ASSERT_TRUE(handles.ok()) << handles.status();
  ASSERT_EQ(handles->size(), 2u);
  EXPECT_EQ(handles->front().kind, ClaimedHandle::Kind::kDeviceSegment);
  EXPECT_EQ(handles->front().bytes, kGranule);
  EXPECT_EQ(handles->back().kind, ClaimedHandle::Kind::kTensorIndex);
}

TEST_F(GpuCopiesTest, APrivateCopyIsTheClientsOwn) {
  StartWithGpus(4);
  Put("m", 4);
  Load("m");
  const absl::StatusOr<Grant> one = AcquireOn(kGpu, "m", /*is_private=*/true)->Await();
  const absl::StatusOr<Grant> two = AcquireOn(kGpu, "m", /*is_private=*/true)->Await();
  ASSERT_TRUE(one.ok() && two.ok()) << one.status() << two.status();
  EXPECT_TRUE(one->device->is_private);
  EXPECT_EQ(gpus_->private_copies(), 2u);
  EXPECT_EQ(gpus_->uploads(), 0u);
  EXPECT_TRUE(Where("m").empty());
  EXPECT_EQ(UsedGranules(kGpu), 2u);
  ASSERT_TRUE(cache_->Claim(kAlice, one->lease).ok());
  EXPECT_EQ(UsedGranules(kGpu), 1u);
  EXPECT_FALSE(cache_->Claim(kAlice, one->lease).ok());
  Release(one->lease);
  Release(two->lease);
  AwaitUsedGranules(kGpu, 0);
}

TEST_F(GpuCopiesTest, APrivateCopyOfWhatIsOnTheGpuIsMadeThere) {
  StartWithGpus(4, Placed("m", {.host = false, .gpus = {kGpu}}));
  Put("m", 4);
  ASSERT_TRUE(Preload("m")->Await().ok());
  ASSERT_TRUE(AcquireOn(kGpu, "m", /*is_private=*/true)->Await().ok());
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_EQ(UsedGranules(kGpu), 2u);
}

TEST_F(GpuCopiesTest, APlacedModelIsLoadedToItsGpus) {
  StartWithGpus(4, Placed("m", {.gpus = {kGpu, kOtherGpu}}));
  Put("m", 4);
  Load("m");
  EXPECT_EQ(Where("m"), (std::vector<GpuId>{kGpu, kOtherGpu}));
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(GpuCopiesTest, OtherPlacementsAreKeptFromThenOn) {
  StartWithGpus(4, Placed("m", {.gpus = {kGpu}}));
  Put("m", 4);
  Put("new", 4);
  Load("m");
  const LeaseId lease = Lease("new");
  cache_->SetPlacements({{Named("m").ToString(), {.gpus = {kOtherGpu}}},
                         {Named("new").ToString(), {.gpus = {kGpu}}}});
  trail_->Await(EventKind::kGpuCopied, 3);
  EXPECT_EQ(Where("m"), (std::vector<GpuId>{kGpu, kOtherGpu}));
  EXPECT_EQ(Where("new"), std::vector<GpuId>{kGpu});
  EXPECT_EQ(store_.loads(), 2);
  Release(lease);
  cache_->SetPlacements({});
  ASSERT_TRUE(cache_->Evict(Named("m"), false).ok());
  Load("m");
  EXPECT_TRUE(Where("m").empty());
}

TEST_F(GpuCopiesTest, AModelOnlyOnGpusTakesNoHostMemory) {
  StartWithGpus(4, Placed("m", {.host = false, .gpus = {kGpu}}));
  Put("m", 4);
  ASSERT_TRUE(Preload("m")->Await().ok());
  EXPECT_EQ(UsedPages(), 1u);  // its index
  EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
  EXPECT_EQ(ReasonOf(Acquire("m")->Await().status()), Reason::kPlacementDiffers);
  const Grant grant = GrantOn(kGpu, "m");
  EXPECT_EQ(store_.loads(), 1);
  // On another GPU: from the source, beside the copy that is there.
  GrantOn(kOtherGpu, "m");
  EXPECT_EQ(store_.loads(), 2);
  EXPECT_EQ(Where("m"), (std::vector<GpuId>{kGpu, kOtherGpu}));
  ASSERT_TRUE(cache_->Claim(kAlice, grant.lease).ok());
}

TEST_F(GpuCopiesTest, TheLeastRecentlyUsedCopyMakesRoom) {
  StartWithGpus(2);
  for (const char* name : {"a", "b", "c"}) {
    Put(name, 4);
  }
  Release(GrantOn(kGpu, "a").lease);
  Release(GrantOn(kGpu, "b").lease);
  Release(GrantOn(kGpu, "a").lease);
  const Grant c = GrantOn(kGpu, "c");
  EXPECT_TRUE(Where("b").empty());
  EXPECT_FALSE(Where("a").empty());
  EXPECT_TRUE(IsResident("b"));
  // Back from host memory.
  GrantOn(kGpu, "b");
  EXPECT_EQ(store_.loads(), 3);
  EXPECT_TRUE(Where("a").empty());
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "a")->Await().status()), Reason::kBudgetExceeded);
  Release(c.lease);
  EXPECT_TRUE(AcquireOn(kGpu, "a")->Await().ok());
}

TEST_F(GpuCopiesTest, APinnedModelsCopyStays) {
  StartWithGpus(1);
  Put("a", 4);
  Put("b", 4);
  ASSERT_TRUE(PreloadTo(kGpu, "a", /*pin=*/true)->Await().ok());
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "b")->Await().status()), Reason::kBudgetExceeded);
  ASSERT_TRUE(cache_->Pin(Named("a"), false).ok());
  EXPECT_TRUE(AcquireOn(kGpu, "b")->Await().ok());
}

TEST_F(GpuCopiesTest, ALeaseOnACopyKeepsTheModel) {
  StartWithGpus(4);
  Put("m", 400);
  Put("large", 700);
  const Grant grant = GrantOn(kGpu, "m");
  EXPECT_EQ(ReasonOf(Preload("large")->Await().status()), Reason::kBudgetExceeded);
  EXPECT_EQ(ReasonOf(cache_->Evict(Named("m"), false).status()), Reason::kModelInUse);
  Release(grant.lease);
  EXPECT_TRUE(Preload("large")->Await().ok());
  EXPECT_FALSE(IsResident("m"));
  AwaitUsedGranules(kGpu, 0);
}

TEST_F(GpuCopiesTest, AnAbsentGpuAndOtherHandlesAreRefused) {
  StartWithGpus(4, Placed("legacy", {.gpus = {kGpu}, .handles = device::Handles::kLegacy}));
  Put("m", 4);
  Put("legacy", 4);
  EXPECT_EQ(ReasonOf(AcquireOn(fakes::MakeGpuId(9), "m")->Await().status()),
            Reason::kDeviceUnavailable);
  EXPECT_EQ(ReasonOf(AcquireOn({.gpu = kGpu, .legacy = true}, "m")->Await().status()),
            Reason::kPlacementDiffers);
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "legacy")->Await().status()), Reason::kPlacementDiffers);
  const absl::StatusOr<Grant> legacy = AcquireOn({.gpu = kGpu, .legacy = true}, "legacy")->Await();
  ASSERT_TRUE(legacy.ok()) << legacy.status();
  EXPECT_EQ(legacy->device->legacy_handle.size(), 64u);
  const auto handles = cache_->Claim(kAlice, legacy->lease);
  ASSERT_TRUE(handles.ok());
  ASSERT_EQ(handles->size(), 1u);
  EXPECT_EQ(handles->front().kind, ClaimedHandle::Kind::kTensorIndex);
  EXPECT_TRUE(AcquireOn(kGpu, "legacy", /*is_private=*/true)->Await().ok());
}

TEST_F(GpuCopiesTest, WhoMayNotLoadGetsOnlyWhatIsThere) {
  StartWithGpus(4);
  Put("m", 4);
  Load("m");
  EXPECT_EQ(ReasonOf(AcquireOn({.gpu = kGpu}, "m", /*may_load=*/false)->Await().status()),
            Reason::kModelNotResident);
  EXPECT_TRUE(AcquireOn({.gpu = kGpu, .is_private = true}, "m", /*may_load=*/false)->Await().ok());
  GrantOn(kGpu, "m");
  EXPECT_TRUE(AcquireOn({.gpu = kGpu}, "m", /*may_load=*/false)->Await().ok());
}

TEST_F(GpuCopiesTest, AFailedCopyIsTheErrorOfWhoeverWantsIt) {
  StartWithGpus(4, Placed("placed", {.gpus = {kGpu}}));
  Put("m", 4);
  Put("placed", 4);
  gpus_->FailUploads(kGpu, Error(Reason::kDeviceMemoryShort, "the GPU is full"));
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "m")->Await().status()), Reason::kDeviceMemoryShort);
  EXPECT_TRUE(Acquire("m")->Await().ok());
  // A placement promises, but a preload is about the model.
  EXPECT_TRUE(Preload("placed")->Await().ok());
  EXPECT_EQ(UsedGranules(kGpu), 0u);
  gpus_->FailUploads(kGpu, absl::OkStatus());
  EXPECT_TRUE(AcquireOn(kGpu, "m")->Await().ok());
}

TEST_F(GpuCopiesTest, ACopyThatNobodyWaitsForIsGivenUp) {
  StartWithGpus(4);
  Put("m", 4);
  Load("m");
  gpus_->CloseGate();
  const auto call = AcquireOn(kGpu, "m");
  const auto of_session = AcquireOn(kGpu, "m", /*is_private=*/true, kBob);
  ASSERT_TRUE(gpus_->AwaitGate());
  call->Leave();
  cache_->EndSession(kBob);
  EXPECT_EQ(ReasonOf(of_session->Await().status()), Reason::kSessionInvalid);
  AwaitUsedGranules(kGpu, 0);
  gpus_->OpenGate();
  EXPECT_TRUE(Where("m").empty());
  EXPECT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
}

TEST_F(GpuCopiesTest, AForcedEvictionDrainsWhatClientsMap) {
  StartWithGpus(4);
  Put("m", 4);
  const Grant claimed = GrantOn(kGpu, "m");
  const Grant unclaimed = GrantOn(kGpu, "m", kBob);
  ASSERT_TRUE(cache_->Claim(kAlice, claimed.lease).ok());
  const auto result = cache_->Evict(Named("m"), /*force=*/true);
  ASSERT_TRUE(result.ok());
  EXPECT_GE(result->draining_bytes, kGranule);
  EXPECT_EQ(gpus_->UsageOf(kGpu).draining, kGranule);
  Release(unclaimed.lease, kBob);
  EXPECT_EQ(gpus_->UsageOf(kGpu).draining, kGranule);
  cache_->EndSession(kAlice);
  AwaitUsedGranules(kGpu, 0);
}

TEST_F(GpuCopiesTest, APrivateLeaseOutlivesTheSharedCopy) {
  StartWithGpus(4);
  Put("m", 4);
  Release(GrantOn(kGpu, "m").lease);
  const absl::StatusOr<Grant> mine = AcquireOn(kGpu, "m", /*is_private=*/true)->Await();
  ASSERT_TRUE(mine.ok()) << mine.status();
  ASSERT_TRUE(cache_->EvictFromGpu(Named("m"), kGpu, /*force=*/false).ok());
  EXPECT_TRUE(cache_->Claim(kAlice, mine->lease).ok());
}

TEST_F(GpuCopiesTest, APrivateCopyMovesNoPlacedModelAway) {
  StartWithGpus(2, Placed("placed", {.gpus = {kGpu}}));
  for (const char* name : {"placed", "other", "m"}) {
    Put(name, 4);
  }
  Load("placed");
  Load("m");
  Release(GrantOn(kGpu, "other").lease);
  const absl::StatusOr<Grant> mine = AcquireOn(kGpu, "m", /*is_private=*/true)->Await();
  ASSERT_TRUE(mine.ok()) << mine.status();
  EXPECT_TRUE(Where("other").empty());
  EXPECT_FALSE(Where("placed").empty());
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "m", /*is_private=*/true)->Await().status()),
            Reason::kBudgetExceeded);
}

TEST_F(GpuCopiesTest, AGpuThatFailsSaysNothingOfTheSource) {
  StartWithGpus(4, Placed("m", {.host = false, .gpus = {kGpu, kOtherGpu}}));
  Put("m", 4);
  gpus_->FailReserves(kOtherGpu, Error(Reason::kDeviceUnavailable, "out of order"));
  ASSERT_TRUE(Preload("m")->Await().ok());
  EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
  // It is here, and so for whom the other GPU is only a promise.
  EXPECT_TRUE(Preload("m")->Await().ok());
  EXPECT_EQ(ReasonOf(AcquireOn(kOtherGpu, "m")->Await().status()), Reason::kDeviceUnavailable);
  EXPECT_FALSE(cache_->Model(Named("m"))->stale);
  EXPECT_EQ(trail_->Count(EventKind::kStale), 0);
}

TEST_F(GpuCopiesTest, ANewRevisionComesBesideTheOldOne) {
  StartWithGpus(2, Placed("m", {.gpus = {kGpu}}));
  Put("m", 4, 1);
  const Grant old = GrantOn(kGpu, "m");
  Put("m", 4, 2);
  ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/true).ok());
  const Grant now = GrantOn(kGpu, "m");
  EXPECT_NE(old.model.revision, now.model.revision);
  EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
}

}  // namespace
}  // namespace weightd::cache
