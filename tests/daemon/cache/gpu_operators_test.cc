#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/status.h"
#include "tests/daemon/cache/gpu_cache_fixture.h"

namespace weightd::cache {
namespace {

class GpuOperatorsTest : public GpuCacheTest {};

absl::Status Gone() { return Error(Reason::kDeviceUnavailable, "the worker ended"); }

TEST_F(GpuOperatorsTest, ANodeWithoutGpusSaysSo) {
  Start(100);
  Put("m", 4);
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "m")->Await().status()), Reason::kDeviceUnavailable);
  EXPECT_EQ(ReasonOf(cache_->DrainGpu(kGpu, true).status()), Reason::kDeviceUnavailable);
  EXPECT_EQ(ReasonOf(cache_->FindGpu("0").status()), Reason::kDeviceUnavailable);
  EXPECT_TRUE(cache_->Gpus().empty());
}

TEST_F(GpuOperatorsTest, ACopyIsEvictedAlone) {
  StartWithGpus(4);
  Put("m", 4);
  const Grant grant = GrantOn(kGpu, "m");
  EXPECT_EQ(ReasonOf(cache_->EvictFromGpu(Named("m"), kGpu, false).status()), Reason::kModelInUse);
  EXPECT_EQ(ReasonOf(cache_->EvictFromGpu(Named("m"), kOtherGpu, false).status()),
            Reason::kModelNotResident);
  Release(grant.lease);
  const auto result = cache_->EvictFromGpu(Named("m"), kGpu, false);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->freed_bytes, kGranule);
  AwaitUsedGranules(kGpu, 0);
  EXPECT_TRUE(IsResident("m"));
  EXPECT_EQ(trail_->Count(EventKind::kGpuDropped), 1);
}

TEST_F(GpuOperatorsTest, AModelThatIsNowhereElseLeaves) {
  StartWithGpus(4, Placed("m", {.host = false, .gpus = {kGpu}}));
  Put("m", 4);
  ASSERT_TRUE(Preload("m")->Await().ok());
  ASSERT_TRUE(cache_->EvictFromGpu(Named("m"), kGpu, false).ok());
  EXPECT_EQ(ReasonOf(cache_->Model(Named("m")).status()), Reason::kModelNotResident);
  AwaitUsedGranules(kGpu, 0);
  AwaitResidentPages(0);
}

TEST_F(GpuOperatorsTest, DrainingTakesEverythingOff) {
  CacheOptions options = Placed("placed", {.gpus = {kGpu}});
  options.placements[Named("only").ToString()] = {.host = false, .gpus = {kGpu}};
  StartWithGpus(4, options);
  Put("placed", 4);
  Put("only", 4);
  Load("placed");
  ASSERT_TRUE(Preload("only")->Await().ok());
  const Grant grant = GrantOn(kGpu, "placed");
  EXPECT_EQ(ReasonOf(cache_->DrainGpu(kGpu, false).status()), Reason::kModelInUse);
  Release(grant.lease);
  const absl::StatusOr<uint64_t> freed = cache_->DrainGpu(kGpu, false);
  ASSERT_TRUE(freed.ok()) << freed.status();
  EXPECT_EQ(*freed, 2 * kGranule);
  EXPECT_EQ(cache_->Gpus()[0].state, device::GpuStatus::State::kDrained);
  AwaitUsedGranules(kGpu, 0);
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "placed")->Await().status()), Reason::kDeviceUnavailable);
  EXPECT_TRUE(Acquire("placed")->Await().ok());
  ASSERT_TRUE(cache_->ResumeGpu(kGpu).ok());
  // What is placed there comes back by itself.
  trail_->Await(EventKind::kGpuCopied, 4);
  EXPECT_EQ(UsedGranules(kGpu), 2u);
  EXPECT_EQ(Where("placed"), std::vector<GpuId>{kGpu});
}

TEST_F(GpuOperatorsTest, DrainingByForceEndsLeases) {
  StartWithGpus(4);
  Put("m", 4);
  const Grant grant = GrantOn(kGpu, "m");
  ASSERT_TRUE(cache_->Claim(kAlice, grant.lease).ok());
  ASSERT_TRUE(cache_->DrainGpu(kGpu, true).ok());
  EXPECT_EQ(ReasonOf(cache_->Claim(kAlice, grant.lease).status()), Reason::kLeaseUnknown);
  EXPECT_TRUE(IsResident("m"));
  Release(grant.lease);
  AwaitUsedGranules(kGpu, 0);
}

TEST_F(GpuOperatorsTest, DrainingEndsPrivateCopiesThatNobodyTook) {
  StartWithGpus(4);
  Put("m", 4);
  Load("m");
  const absl::StatusOr<Grant> mine = AcquireOn(kGpu, "m", /*is_private=*/true)->Await();
  ASSERT_TRUE(mine.ok()) << mine.status();
  ASSERT_TRUE(cache_->DrainGpu(kGpu, false).ok());
  AwaitUsedGranules(kGpu, 0);
  EXPECT_EQ(ReasonOf(cache_->Claim(kAlice, mine->lease).status()), Reason::kLeaseUnknown);
  EXPECT_EQ(cache_->Model(Named("m"))->leases, 0u);
}

TEST_F(GpuOperatorsTest, DrainingStopsWhatIsBeingCopied) {
  StartWithGpus(4);
  Put("m", 4);
  Load("m");
  gpus_->CloseGate();
  const auto call = AcquireOn(kGpu, "m");
  ASSERT_TRUE(gpus_->AwaitGate());
  ASSERT_TRUE(cache_->DrainGpu(kGpu, false).ok());
  EXPECT_EQ(ReasonOf(call->Await().status()), Reason::kDeviceUnavailable);
  gpus_->OpenGate();
  AwaitUsedGranules(kGpu, 0);
}

TEST_F(GpuOperatorsTest, ALostGpuCostsNoHostMemoryAndPlacedCopiesComeBack) {
  CacheOptions options = Placed("placed", {.gpus = {kGpu}});
  options.placements[Named("only").ToString()] = {.host = false, .gpus = {kGpu}};
  StartWithGpus(4, options);
  for (const char* name : {"placed", "only", "other"}) {
    Put(name, 4);
  }
  Load("placed");
  ASSERT_TRUE(Preload("only")->Await().ok());
  const Grant grant = GrantOn(kGpu, "other");
  ASSERT_TRUE(cache_->Claim(kAlice, grant.lease).ok());
  gpus_->Lose(kGpu, Gone());
  EXPECT_EQ(trail_->Await(EventKind::kGpuLost).gpu, kGpu);
  EXPECT_TRUE(Where("other").empty());
  EXPECT_TRUE(Acquire("other")->Await().ok());
  EXPECT_EQ(ReasonOf(cache_->Claim(kAlice, grant.lease).status()), Reason::kLeaseUnknown);
  trail_->Await(EventKind::kGpuCopied, 5);
  EXPECT_EQ(Where("placed"), std::vector<GpuId>{kGpu});
  EXPECT_EQ(Where("only"), std::vector<GpuId>{kGpu});
  EXPECT_TRUE(Where("other").empty());
  GrantOn(kGpu, "other");
  EXPECT_EQ(store_.loads(), 4);  // "only" once more
}

TEST_F(GpuOperatorsTest, ALossInTheMiddleOfACopyIsItsError) {
  StartWithGpus(4);
  Put("m", 4);
  Load("m");
  gpus_->CloseGate();
  const auto call = AcquireOn(kGpu, "m");
  ASSERT_TRUE(gpus_->AwaitGate());
  gpus_->Lose(kGpu, Gone());
  gpus_->OpenGate();
  EXPECT_EQ(ReasonOf(call->Await().status()), Reason::kDeviceUnavailable);
  EXPECT_TRUE(AcquireOn(kGpu, "m")->Await().ok());
}

TEST_F(GpuOperatorsTest, AForcedEvictionStopsWhatIsMadeOfAnOldRevision) {
  StartWithGpus(4, {.revalidate = absl::ZeroDuration()});
  Put("m", 4, 1);
  Load("m");
  gpus_->CloseGate();
  const auto call = AcquireOn(kGpu, "m", /*is_private=*/true);
  ASSERT_TRUE(gpus_->AwaitGate());
  Put("m", 4, 2);
  // A check that began before may still be at work.
  while (trail_->Count(EventKind::kSuperseded) == 0) {
    Release(Lease("m"));
  }
  ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/true).ok());
  EXPECT_EQ(ReasonOf(call->Await().status()), Reason::kCancelled);
  gpus_->OpenGate();
  AwaitUsedGranules(kGpu, 0);
}

TEST_F(GpuOperatorsTest, APlacedModelComesBackHoweverOftenItsGpuFails) {
  StartWithGpus(4, Placed("m", {.host = false, .gpus = {kGpu}}));
  Put("m", 4);
  ASSERT_TRUE(Preload("m")->Await().ok());
  gpus_->FailReserves(kGpu, Gone());
  gpus_->Lose(kGpu, Gone());
  trail_->Await(EventKind::kLoadFailed, 2);
  EXPECT_TRUE(Where("m").empty());
  gpus_->FailReserves(kGpu, absl::OkStatus());
  trail_->Await(EventKind::kGpuCopied, 2);
  EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
}

TEST_F(GpuOperatorsTest, WhatClientsMapOfEvictedModelsKeepsAGpu) {
  StartWithGpus(4);
  Put("m", 4);
  const Grant grant = GrantOn(kGpu, "m");
  ASSERT_TRUE(cache_->Claim(kAlice, grant.lease).ok());
  ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/true).ok());
  EXPECT_EQ(ReasonOf(cache_->DrainGpu(kGpu, false).status()), Reason::kModelInUse);
  Release(grant.lease);
  AwaitUsedGranules(kGpu, 0);
  EXPECT_TRUE(cache_->DrainGpu(kGpu, false).ok());
}

TEST_F(GpuOperatorsTest, TheEndOfTheCacheEndsCopies) {
  StartWithGpus(4);
  Put("m", 4);
  Load("m");
  gpus_->CloseGate();
  const auto call = AcquireOn(kGpu, "m");
  ASSERT_TRUE(gpus_->AwaitGate());
  Stop();
  EXPECT_EQ(ReasonOf(call->Await().status()), Reason::kShuttingDown);
  EXPECT_EQ(gpus_->segments_alive(), 0u);
}

}  // namespace
}  // namespace weightd::cache
