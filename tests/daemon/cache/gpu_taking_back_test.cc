#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/gpu_id.h"
#include "common/status.h"
#include "daemon/cache/left_copy.h"
#include "gtest/gtest.h"
#include "tests/daemon/cache/gpu_readoption_fixture.h"
#include "tests/fakes/fake_gpus.h"

namespace weightd::cache {
namespace {

// Copies of an earlier daemon that can't be taken back at once, or not at all.
class GpuTakingBackTest : public GpuReadoptionTest {
 protected:
  static absl::Status WorkerDied() {
    return Error(Reason::kDeviceUnavailable, "the GPU's worker was killed", "try again");
  }
  // Until the first attempt has failed, which is said once.
  Event AwaitFirstFailure() { return trail_->Await(EventKind::kNotReadopted); }
  // A model on one GPU only, of a daemon that is gone.
  void LeaveOnGpuAlone() {
    NextOnGpus(4, OnlyOn({kGpu}));
    Put("m", 4);
    CopyTo(kGpu, "m");
  }
};

TEST_F(GpuTakingBackTest, WhatFailedForAReasonThatPassesIsTakenBackAtTheNextUse) {
  const std::vector<absl::Status> reasons = {
      WorkerDied(), ErrnoError(EMFILE, "duplicate a descriptor"),
      Error(Reason::kDeviceMemoryShort, "cuMemMap: CUDA_ERROR_OUT_OF_MEMORY"),
      Error(Reason::kInternal, "cuMemcpyDtoH: CUDA_ERROR_UNKNOWN")};
  Put("m", 4);
  CopyTo(kGpu, "m");
  for (const absl::Status& reason : reasons) {
    NextFailing(kGpu, reason);
    const Event failed = AwaitFirstFailure();
    EXPECT_EQ(failed.gpu, kGpu);
    EXPECT_EQ(ReasonOf(failed.error), ReasonOf(reason));
    EXPECT_TRUE(absl::StrContains(failed.error.message(), "is tried again")) << failed.error;
    EXPECT_TRUE(absl::StrContains(failed.error.message(), reason.message())) << failed.error;
    EXPECT_EQ(UsedGranules(kGpu), 1u) << "its room stays charged";
    EXPECT_EQ(Copies().size(), 1u) << "and it stays kept";
    // Meanwhile it is in host memory only.
    EXPECT_TRUE(Where("m").empty());
    Release(Lease("m"));
    const absl::Status refused = AcquireOn(kGpu, "m")->Await().status();
    EXPECT_EQ(ReasonOf(refused), ReasonOf(reason));
    gpus_->FailImports(kGpu, absl::OkStatus());
    Release(GrantOn(kGpu, "m", /*may_load=*/false).lease);
    EXPECT_EQ(gpus_->uploads(), 0u);
    EXPECT_EQ(UsedGranules(kGpu), 1u);
    EXPECT_EQ(trail_->Count(EventKind::kNotReadopted), 1) << "not every attempt";
  }
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(GpuTakingBackTest, ItIsTakenBackThoughNobodyAsks) {
  Put("m", 4);
  CopyTo(kGpu, "m");
  NextFailing(kGpu, WorkerDied());
  AwaitFirstFailure();
  gpus_->FailImports(kGpu, absl::OkStatus());
  AwaitReadopted(2);
  EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
  EXPECT_EQ(gpus_->uploads(), 0u);
}

TEST_F(GpuTakingBackTest, OneThatIsBackTakesTheOthersAlong) {
  Put("m", 4, 1);
  Put("n", 5, 2);
  CopyTo(kGpu, "m");
  CopyTo(kGpu, "n");
  NextFailing(kGpu, WorkerDied());
  trail_->Await(EventKind::kNotReadopted, 2);
  // Later than the test would wait.
  for (int i = 0; i < LeftCopy::kMostTries - 2; ++i) {
    EXPECT_FALSE(AcquireOn(kGpu, "m")->Await().ok());
  }
  gpus_->FailImports(kGpu, absl::OkStatus());
  GrantOn(kGpu, "n", /*may_load=*/false);
  AwaitReadopted(4);
  EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
}

TEST_F(GpuTakingBackTest, AModelOnlyOnGpusIsNotLoadedAgainMeanwhile) {
  LeaveOnGpuAlone();
  NextFailing(kGpu, WorkerDied(), OnlyOn({kGpu}));
  AwaitFirstFailure();
  EXPECT_TRUE(IsResident("m"));
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "m")->Await().status()), Reason::kDeviceUnavailable);
  EXPECT_EQ(
      ReasonOf(AcquireOn(kGpu, "m", /*may_load=*/true, /*is_private=*/true)->Await().status()),
      Reason::kDeviceUnavailable);
  EXPECT_EQ(cache_->Readoption().not_readopted, 0u);
  gpus_->FailImports(kGpu, absl::OkStatus());
  EXPECT_TRUE(AcquireOn(kGpu, "m", /*may_load=*/false, /*is_private=*/true)->Await().ok());
  GrantOn(kGpu, "m", /*may_load=*/false);
  EXPECT_EQ(cache_->Readoption().readopted, 1u);
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(GpuTakingBackTest, TriesAreBounded) {
  LeaveOnGpuAlone();
  NextFailing(kGpu, WorkerDied(), OnlyOn({kGpu}));
  AwaitFirstFailure();
  absl::Status last;
  while (trail_->Count(EventKind::kNotReadopted) == 1) {
    last = AcquireOn(kGpu, "m", /*may_load=*/false)->Await().status();
  }
  EXPECT_EQ(ReasonOf(last), Reason::kModelNotResident) << last;
  const Event gone = trail_->Await(EventKind::kNotReadopted, 2);
  EXPECT_TRUE(absl::StrContains(gone.error.message(),
                                absl::StrCat("tried ", LeftCopy::kMostTries, " times")))
      << gone.error;
  EXPECT_EQ(cache_->Readoption().not_readopted, 1u);
  EXPECT_FALSE(IsResident("m"));
  AwaitStored(0);
  AwaitUsedGranules(kGpu, 0);
  gpus_->FailImports(kGpu, absl::OkStatus());
  GrantOn(kGpu, "m");
  EXPECT_EQ(store_.loads(), 2);
}

TEST_F(GpuTakingBackTest, AWorkerThatEndsAsSoonAsItHasImportedIsNoEnd) {
  Put("m", 4);
  CopyTo(kGpu, "m");
  PrepareGpus();
  gpus_->LoseImport(kGpu);
  Next();
  AwaitFirstFailure();
  EXPECT_EQ(Copies().size(), 1u);
  GrantOn(kGpu, "m", /*may_load=*/false);
  EXPECT_EQ(gpus_->uploads(), 0u);
  EXPECT_EQ(UsedGranules(kGpu), 1u);
}

TEST_F(GpuTakingBackTest, ItsModelMayLeaveMeanwhile) {
  // By an operator, and for room.
  for (const bool evicted : {true, false}) {
    Put("m", 60, 1);
    Load("m");
    CopyTo(kGpu, "m");
    NextFailing(kGpu, WorkerDied());
    AwaitFirstFailure();
    if (evicted) {
      ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
      AwaitStored(0);
    } else {
      Put("n", 61, 2);
      Load("n");
      AwaitStored(3);
    }
    EXPECT_FALSE(IsResident("m"));
    EXPECT_TRUE(Copies().empty());
    AwaitUsedGranules(kGpu, 0);
  }
}

TEST_F(GpuTakingBackTest, AnotherRevisionTakesItsPlace) {
  LeaveOnGpuAlone();
  NextFailing(kGpu, WorkerDied(), OnlyOn({kGpu, kOtherGpu}));
  AwaitFirstFailure();
  Put("m", 5, 2);
  const auto call = Preload("m");
  EXPECT_FALSE(call->Await().ok()) << "its placed copy is to be taken back";
  ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
  Load("m");
  EXPECT_EQ(Where("m"), (std::vector<GpuId>{kGpu, kOtherGpu}));
  EXPECT_EQ(Copies().size(), 1u);
}

TEST_F(GpuTakingBackTest, ItMakesNoRoomAndKeepsNobodyWaitingForAny) {
  Put("m", 4, 1);
  Put("n", 5, 2);
  CopyTo(kGpu, "m");
  PrepareGpus(1);
  gpus_->FailImports(kGpu, WorkerDied());
  Next();
  AwaitFirstFailure();
  EXPECT_EQ(ReasonOf(AcquireOn(kGpu, "n")->Await().status()), Reason::kBudgetExceeded);
}

TEST_F(GpuTakingBackTest, AGpuThatHangsKeepsNoOtherWaiting) {
  constexpr int kModels = 20;
  for (int i = 1; i <= kModels; ++i) {
    const std::string name = absl::StrCat("m", i);
    Put(name, 1, i);
    CopyTo(kGpu, name);
    if (i == 1) {
      CopyTo(kOtherGpu, name);
    }
  }
  PrepareGpus(kModels);
  gpus_->HoldImports(kGpu);
  Next();
  GrantOn(kOtherGpu, "m1", /*may_load=*/false);
  GrantOn(kOtherGpu, "m2");
  EXPECT_EQ(gpus_->uploads(), 1u);
}

TEST_F(GpuTakingBackTest, DrainingRemembersWhatIsPlacedThereAlone) {
  for (const bool failed : {false, true}) {
    LeaveOnGpuAlone();
    const int loads = store_.loads();
    PrepareGpus();
    if (failed) {
      gpus_->FailImports(kGpu, WorkerDied());
    } else {
      gpus_->HoldImports(kGpu);
    }
    Next(kBudget, OnlyOn({kGpu}));
    if (failed) {
      AwaitFirstFailure();
    }
    ASSERT_TRUE(cache_->DrainGpu(kGpu, /*force=*/false).ok());
    EXPECT_FALSE(IsResident("m"));
    AwaitStored(0);
    AwaitUsedGranules(kGpu, 0);
    ASSERT_TRUE(cache_->ResumeGpu(kGpu).ok());
    trail_->Await(EventKind::kGpuCopied);
    EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
    EXPECT_EQ(store_.loads(), loads + 1);
    ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/true).ok());
  }
}

TEST_F(GpuTakingBackTest, OneThatIsStoppedIsNoUse) {
  LoadThreeWithACopyOfTheFirst();
  PrepareGpus();
  gpus_->HoldImports(kGpu);
  Next();
  ASSERT_TRUE(cache_->DrainGpu(kGpu, /*force=*/false).ok());
  Put("d", 25, 4);
  Load("d");
  EXPECT_FALSE(IsResident("a"));
  EXPECT_TRUE(IsResident("b"));
}

TEST_F(GpuTakingBackTest, WhatIsPlacedWithLegacyHandlesByNowIsMadeAnew) {
  for (const bool only_there : {false, true}) {
    CacheOptions options;
    Placement& placement = options.placements[Named("m").ToString()];
    placement = {.host = !only_there, .gpus = {kGpu}};
    NextOnGpus(4, options);
    Put("m", 4);
    Load("m");
    const int loads = store_.loads();
    ASSERT_EQ(Copies().size(), 1u);
    placement.handles = device::Handles::kLegacy;
    // No more than it needs.
    NextOnGpus(1, options);
    const Event dropped = trail_->Await(EventKind::kNotReadopted);
    EXPECT_EQ(dropped.gpu, kGpu);
    EXPECT_TRUE(absl::StrContains(dropped.error.message(), "legacy handles now")) << dropped.error;
    EXPECT_EQ(gpus_->imports(), 0u);
    AcquireRequest request;
    request.uri = Named("m");
    request.may_load = true;
    request.device = {.gpu = kGpu, .legacy = true};
    request.holder = {.session = kAlice, .listener = "test", .uid = 7};
    Call call;
    call.Keep(cache_->Acquire(std::move(request), call.ForAcquire()));
    const absl::StatusOr<Grant> grant = call.Await();
    ASSERT_TRUE(grant.ok()) << grant.status();
    EXPECT_EQ(grant->device->legacy_handle.size(), 64u);
    EXPECT_TRUE(Copies().empty());
    EXPECT_EQ(UsedGranules(kGpu), 1u);
    EXPECT_EQ(store_.loads(), loads + (only_there ? 1 : 0));
    Release(grant->lease);
    ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/true).ok());
    AwaitStored(0);
  }
}

}  // namespace
}  // namespace weightd::cache
