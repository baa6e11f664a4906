#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "common/status.h"
#include "gtest/gtest.h"
#include "tests/daemon/cache/gpu_readoption_fixture.h"
#include "tests/fakes/fake_gpus.h"
#include "tests/fakes/fake_loader.h"

namespace weightd::cache {
namespace {

TEST_F(GpuReadoptionTest, ACopyComesBackWithoutAnUpload) {
  Put("m", 4, /*revision=*/7);
  CopyTo(kGpu, "m");
  CopyTo(kOtherGpu, "m");
  EXPECT_EQ(fds_.Names().size(), 5u);
  for (int daemon = 0; daemon < 3; ++daemon) {
    NextOnGpus();
    AwaitReadopted(3);
    EXPECT_EQ(Where("m"), (std::vector<GpuId>{kGpu, kOtherGpu}));
    EXPECT_EQ(UsedGranules(kGpu), 1u);
    EXPECT_EQ(gpus_->UsageOf(kGpu).resident, kGranule);
    EXPECT_EQ(gpus_->imports(), 2u);
    const Grant grant = GrantOn(kGpu, "m", /*may_load=*/false);
    const auto handles = Claim(grant.lease);
    EXPECT_EQ(handles.front().kind, ClaimedHandle::Kind::kDeviceSegment);
    std::string bytes(4 * kPageBytes, '\0');
    EXPECT_EQ(pread(handles.front().fd.get(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    EXPECT_EQ(bytes, std::string(4 * kPageBytes, 7));
    EXPECT_EQ(gpus_->uploads(), 0u);
    EXPECT_EQ(fds_.Names().size(), 5u) << "stored again, it is there once";
  }
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_EQ(trail_->Count(EventKind::kNotReadopted), 0);
}

TEST_F(GpuReadoptionTest, AWorkerThatIsSlowKeepsOnlyThoseWaitingWhoWantTheCopy) {
  Put("m", 4);
  CopyTo(kGpu, "m");
  PrepareGpus();
  gpus_->CloseGate();
  Next();
  EXPECT_EQ(UsedGranules(kGpu), 1u) << "it is charged from the start";
  EXPECT_TRUE(Where("m").empty());
  const auto waiting = AcquireOn(kGpu, "m", /*may_load=*/false);
  const auto leaving = AcquireOn(kGpu, "m");
  ASSERT_TRUE(gpus_->AwaitGate());
  EXPECT_FALSE(waiting->done());
  leaving->Leave();
  Release(Lease("m"));
  gpus_->OpenGate();
  EXPECT_TRUE(waiting->Await().ok());
  EXPECT_EQ(gpus_->uploads(), 0u);
}

TEST_F(GpuReadoptionTest, AModelOnlyOnGpusIsHandedOverWithACopy) {
  NextOnGpus(4, OnlyOn({kGpu}));
  Put("m", 4);
  CopyTo(kGpu, "m");
  EXPECT_EQ(HandOver().kept_models, 1u);
  EXPECT_EQ(trail_->Count(EventKind::kNotKept), 0);
  PrepareGpus();
  gpus_->CloseGate();
  Next(kBudget, OnlyOn({kGpu}));
  EXPECT_TRUE(Where("m").empty()) << "it is still being taken back";
  EXPECT_EQ(HandOver().kept_models, 1u);
  gpus_->OpenGate();
  AwaitReadopted(2);
}

TEST_F(GpuReadoptionTest, ACopyThatCantBeKeptIsToldAndNotHandedOver) {
  NextOnGpus(4, OnlyOn({kGpu}));
  Put("m", 4);
  gpus_->FailExports(kGpu, Error(Reason::kDeviceUnavailable, "no descriptor is left"));
  EXPECT_TRUE(Preload("m")->Await().ok());
  const Event told = trail_->Await(EventKind::kNotKept);
  EXPECT_EQ(told.gpu, kGpu);
  EXPECT_EQ(told.uri, Named("m"));
  EXPECT_TRUE(absl::StrContains(told.error.message(), "no descriptor is left")) << told.error;
  EXPECT_TRUE(Copies().empty());
  const HandedOver handed = HandOver();
  EXPECT_EQ(handed.kept_models, 0u);
  EXPECT_EQ(handed.lost_models, 1u);
}

TEST_F(GpuReadoptionTest, AModelOnlyOnGpusComesBack) {
  NextOnGpus(4, OnlyOn({kGpu}));
  Put("m", 4);
  CopyTo(kGpu, "m");
  EXPECT_EQ(fds_.Names().size(), 3u);
  for (int daemon = 0; daemon < 2; ++daemon) {
    PrepareGpus();
    gpus_->CloseGate();
    Next(kBudget, OnlyOn({kGpu}));
    ASSERT_EQ(trail_->Count(EventKind::kNotReadopted), 0) << Complaint();
    EXPECT_TRUE(cache_->Model(Named("m"))->readopted);
    EXPECT_EQ(UsedPages(), 1u);
    // Nobody loads what is on its way.
    const auto shared = AcquireOn(kGpu, "m");
    const auto own = AcquireOn(kGpu, "m", /*may_load=*/false, /*is_private=*/true);
    gpus_->OpenGate();
    const absl::StatusOr<Grant> grant = shared->Await();
    ASSERT_TRUE(grant.ok()) << grant.status();
    EXPECT_EQ(Claim(grant->lease).size(), 2u);
    ASSERT_TRUE(own->Await().ok());
    EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
    EXPECT_EQ(gpus_->uploads(), 0u);
    EXPECT_EQ(fds_.Names().size(), 3u);
  }
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(GpuReadoptionTest, WhatTheWorkerRefusesIsDroppedAndMadeAgain) {
  Put("m", 4);
  CopyTo(kGpu, "m");
  PrepareGpus();
  gpus_->CloseGate();
  gpus_->FailImports(kGpu, Error(Reason::kVerificationFailed, "memory of something else"));
  Next();
  const auto waiting = AcquireOn(kGpu, "m");
  const auto asking = AcquireOn(kGpu, "m", /*may_load=*/false);
  gpus_->OpenGate();
  EXPECT_TRUE(waiting->Await().ok());
  EXPECT_EQ(ReasonOf(asking->Await().status()), Reason::kModelNotResident);
  const Event refused = trail_->Await(EventKind::kNotReadopted);
  EXPECT_EQ(refused.gpu, kGpu);
  EXPECT_TRUE(absl::StrContains(refused.error.message(), "something else")) << refused.error;
  EXPECT_EQ(gpus_->uploads(), 1u);
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_EQ(Copies().size(), 1u) << "the new one";
}

TEST_F(GpuReadoptionTest, AModelWhoseOnlyCopyIsRefusedIsLoadedAgain) {
  for (const bool awaited : {false, true}) {
    NextOnGpus(4, OnlyOn({kGpu}));
    Put("m", 4);
    CopyTo(kGpu, "m");
    const int loads = store_.loads();
    PrepareGpus();
    gpus_->CloseGate();
    gpus_->FailImports(kGpu, Error(Reason::kVerificationFailed, "memory of something else"));
    Next(kBudget, OnlyOn({kGpu}));
    const auto waiting = awaited ? AcquireOn(kGpu, "m") : nullptr;
    const auto asking = AcquireOn(kGpu, "m", /*may_load=*/false);
    gpus_->OpenGate();
    EXPECT_EQ(ReasonOf(asking->Await().status()), Reason::kModelNotResident);
    if (awaited) {
      EXPECT_TRUE(waiting->Await().ok());
      EXPECT_EQ(store_.loads(), loads + 1);
    } else {
      ExpectRefused(kGpu, "something else");
      EXPECT_FALSE(IsResident("m"));
      AwaitStored(0);
      AwaitResidentPages(0);
    }
  }
}

TEST_F(GpuReadoptionTest, OneOfTwoCopiesIsEnough) {
  NextOnGpus(4, OnlyOn({kGpu, kOtherGpu}));
  Put("m", 4);
  Load("m");
  PrepareGpus();
  gpus_->FailImports(kGpu, Error(Reason::kVerificationFailed, "memory of something else"));
  Next(kBudget, OnlyOn({kGpu, kOtherGpu}));
  AwaitReadopted(2);
  ExpectRefused(kGpu, "something else");
  GrantOn(kOtherGpu, "m", /*may_load=*/false);
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(GpuReadoptionTest, OneCopyMayLeaveWhileAnotherIsTakenBack) {
  const auto evict = [this] {
    EXPECT_TRUE(cache_->EvictFromGpu(Named("m"), kGpu, /*force=*/false).ok());
  };
  const auto drain = [this] { EXPECT_TRUE(cache_->DrainGpu(kGpu, /*force=*/false).ok()); };
  const auto lose = [this] { gpus_->Lose(kGpu, absl::UnavailableError("gone")); };
  for (const std::function<void()>& leave :
       std::vector<std::function<void()>>{evict, drain, lose}) {
    NextOnGpus(4, OnlyOn({kGpu, kOtherGpu}));
    Put("m", 4);
    Load("m");
    PrepareGpus();
    gpus_->HoldImports(kOtherGpu);
    Next(kBudget, OnlyOn({kGpu, kOtherGpu}));
    AwaitReadopted(2);
    ASSERT_EQ(Where("m"), std::vector<GpuId>{kGpu});
    leave();
    EXPECT_TRUE(IsResident("m")) << "the other copy is on its way";
    ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
    AwaitStored(0);
    AwaitResidentPages(0);
  }
}

TEST_F(GpuReadoptionTest, WhatIsPlacedInHostMemoryByNowIsLoadedAnew) {
  for (const bool taken_back : {false, true}) {
    NextOnGpus(4, OnlyOn({kGpu}));
    Put("m", 4);
    Load("m");
    const int loads = store_.loads();
    PrepareGpus();
    if (!taken_back) {
      gpus_->HoldImports(kGpu);
    }
    Next(kBudget, OnlyOn({kGpu}));
    AwaitReadopted(taken_back ? 2 : 1);
    cache_->SetPlacements({});
    EXPECT_FALSE(IsResident("m"));
    const LeaseId lease = Lease("m");
    EXPECT_EQ(Claim(lease).front().kind, ClaimedHandle::Kind::kHostSegment);
    EXPECT_EQ(store_.loads(), loads + 1);
    Release(lease);
    ASSERT_TRUE(cache_->Evict(Named("m"), false).ok());
    AwaitStored(0);
  }
}

TEST_F(GpuReadoptionTest, WhatIsLeasedOnAGpuAloneIsNotGrantedInHostMemory) {
  NextOnGpus(4, OnlyOn({kGpu}));
  Put("m", 4);
  const Grant grant = GrantOn(kGpu, "m");
  cache_->SetPlacements({});
  EXPECT_EQ(ReasonOf(Acquire("m")->Await().status()), Reason::kPlacementDiffers);
  EXPECT_EQ(Claim(grant.lease).size(), 2u);
}

TEST_F(GpuReadoptionTest, AModelIsReadoptedOnceACopyIs) {
  NextOnGpus(4, OnlyOn({kGpu, kOtherGpu}));
  Put("m", 4);
  Load("m");
  ASSERT_TRUE(cache_->Pin(Named("m"), true).ok());
  PrepareGpus();
  gpus_->FailImports(kGpu, Error(Reason::kVerificationFailed, "memory of something else"));
  Next(kBudget, OnlyOn({kGpu, kOtherGpu}));
  AwaitReadopted(2);
  trail_->Await(EventKind::kNotReadopted);
  EXPECT_EQ(cache_->Readoption().readopted, 1u);
  EXPECT_EQ(cache_->Readoption().not_readopted, 0u);
  PrepareGpus();
  for (const GpuId& gpu : {kGpu, kOtherGpu}) {
    gpus_->FailImports(gpu, Error(Reason::kVerificationFailed, "memory of something else"));
  }
  Next(kBudget, OnlyOn({kGpu, kOtherGpu}));
  EXPECT_TRUE(trail_->Await(EventKind::kNotReadopted).pin_lost);
  const ReadoptionSnapshot found = cache_->Readoption();
  EXPECT_EQ(found.readopted, 0u);
  EXPECT_EQ(found.not_readopted, 1u);
  EXPECT_EQ(found.pins_lost, 1u);
  EXPECT_EQ(found.failures.at(0).uri, Named("m"));
}

TEST_F(GpuReadoptionTest, WhatLeavesItsGpuLeavesTheStore) {
  NextOnGpus(1);
  Put("m", 4, 1);
  Put("n", 5, 2);
  // For room.
  CopyTo(kGpu, "m");
  CopyTo(kGpu, "n");
  ASSERT_EQ(Copies().size(), 1u);
  // By an operator.
  ASSERT_TRUE(cache_->EvictFromGpu(Named("n"), kGpu, false).ok());
  EXPECT_TRUE(Copies().empty());
  // Though its client maps it.
  const Grant grant = GrantOn(kGpu, "m");
  ASSERT_TRUE(cache_->EvictFromGpu(Named("m"), kGpu, true).ok());
  EXPECT_TRUE(Copies().empty());
  Release(grant.lease);
  // With its model.
  CopyTo(kGpu, "m");
  ASSERT_EQ(Copies().size(), 1u);
  ASSERT_TRUE(cache_->Evict(Named("m"), false).ok());
  EXPECT_TRUE(Copies().empty());
  // With its worker.
  CopyTo(kGpu, "n");
  ASSERT_EQ(Copies().size(), 1u);
  gpus_->Lose(kGpu, Error(Reason::kDeviceUnavailable, "it died"));
  EXPECT_TRUE(Copies().empty());
  // With its GPU.
  CopyTo(kGpu, "n");
  ASSERT_EQ(Copies().size(), 1u);
  ASSERT_TRUE(cache_->DrainGpu(kGpu, false).ok());
  EXPECT_TRUE(Copies().empty());
}

TEST_F(GpuReadoptionTest, LegacyAndPrivateCopiesEndWithTheirDaemon) {
  CacheOptions options;
  options.placements[Named("m").ToString()] = {.gpus = {kGpu}, .handles = device::Handles::kLegacy};
  NextOnGpus(4, options);
  Put("m", 4, 1);
  Put("n", 5, 2);
  Load("m");
  Load("n");
  ASSERT_TRUE(AcquireOn(kGpu, "n", true, /*is_private=*/true)->Await().ok());
  EXPECT_TRUE(Copies().empty());
  // Only there, it isn't kept at all.
  options.placements[Named("m").ToString()].host = false;
  NextOnGpus(4, options);
  ASSERT_TRUE(cache_->Evict(Named("m"), true).ok());
  AwaitStored(3);
  Load("m");
  EXPECT_EQ(fds_.Names().size(), 3u);
}

TEST_F(GpuReadoptionTest, AGpuThatIsGoneIsNamed) {
  Put("m", 4);
  CopyTo(kGpu, "m");
  NextOnGpus(0);
  EXPECT_EQ(trail_->Await(EventKind::kNotReadopted).gpu, kGpu);
  EXPECT_TRUE(absl::StrContains(Complaint(), "no GPU")) << Complaint();
  EXPECT_TRUE(Copies().empty());
  Release(Lease("m"));
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(GpuReadoptionTest, ASmallerBudgetKeepsWhatWasUsedLast) {
  Put("m", 4, 1);
  Put("n", 5, 2);
  CopyTo(kGpu, "m");
  CopyTo(kGpu, "n");
  NextOnGpus(1);
  AwaitReadopted(3);
  EXPECT_EQ(Where("n"), std::vector<GpuId>{kGpu});
  EXPECT_TRUE(Where("m").empty());
  EXPECT_TRUE(IsResident("m"));
  EXPECT_EQ(trail_->Await(EventKind::kNotReadopted).uri, Named("m"));
  EXPECT_EQ(Copies().size(), 1u);
}

TEST_F(GpuReadoptionTest, TakingBackIsNoUse) {
  LoadThreeWithACopyOfTheFirst();
  NextOnGpus();
  AwaitReadopted(4);
  Put("d", 25, 4);
  Load("d");
  EXPECT_FALSE(IsResident("a"));
  EXPECT_TRUE(IsResident("b"));
}

TEST_F(GpuReadoptionTest, ADaemonThatEndsMeanwhileTakesNothingAlong) {
  NextOnGpus(4, OnlyOn({kGpu}));
  Put("m", 4);
  CopyTo(kGpu, "m");
  PrepareGpus();
  gpus_->CloseGate();
  Next(kBudget, OnlyOn({kGpu}));
  ASSERT_TRUE(gpus_->AwaitGate());
  NextOnGpus(4, OnlyOn({kGpu}));
  GrantOn(kGpu, "m", /*may_load=*/false);
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(GpuReadoptionTest, AGpuThatIsDrainedMeanwhileTakesNothingBack) {
  NextOnGpus(4, OnlyOn({kGpu}));
  Put("m", 4);
  CopyTo(kGpu, "m");
  PrepareGpus();
  gpus_->CloseGate();
  Next(kBudget, OnlyOn({kGpu}));
  const auto waiting = AcquireOn(kGpu, "m");
  ASSERT_TRUE(gpus_->AwaitGate());
  ASSERT_TRUE(cache_->DrainGpu(kGpu, true).ok());
  EXPECT_EQ(ReasonOf(waiting->Await().status()), Reason::kDeviceUnavailable);
  EXPECT_FALSE(IsResident("m"));
  AwaitStored(0);
  AwaitResidentPages(0);
  EXPECT_EQ(UsedGranules(kGpu), 0u);
}

TEST_F(GpuReadoptionTest, AnEvictionMeanwhileEndsIt) {
  Put("m", 4);
  CopyTo(kGpu, "m");
  PrepareGpus();
  gpus_->CloseGate();
  Next();
  ASSERT_TRUE(gpus_->AwaitGate());
  ASSERT_TRUE(cache_->Evict(Named("m"), false).ok());
  AwaitStored(0);
  AwaitResidentPages(0);
}

TEST_F(GpuReadoptionTest, DescriptorsThatAreMixedUpAreServedNever) {
  Put("m", 4, 1);
  Put("n", 4, 2);
  CopyTo(kGpu, "m");
  const std::string of_m = Copies().at(0);
  ASSERT_TRUE(cache_->EvictFromGpu(Named("m"), kGpu, true).ok());
  CopyTo(kGpu, "n");
  const std::string of_n = Copies().at(0);
  fds_.Store(of_m, fds_.Find(of_n));
  NextOnGpus();
  AwaitReadopted(3);
  const Event refused = trail_->Await(EventKind::kNotReadopted);
  EXPECT_EQ(refused.uri, Named("m"));
  EXPECT_TRUE(Where("m").empty());
  EXPECT_EQ(Where("n"), std::vector<GpuId>{kGpu});
  EXPECT_EQ(Copies(), std::vector<std::string>{of_n});
}

TEST_F(GpuReadoptionTest, SeveralDescriptorsOfOneNameAreRefused) {
  Put("m", 4);
  CopyTo(kGpu, "m");
  fds_.Store(Copies().at(0), fds_.Find(NameOf("weights")));
  NextOnGpus();
  ExpectRefused(kGpu, "several descriptors");
  EXPECT_TRUE(IsResident("m"));
}

TEST_F(GpuReadoptionTest, NamesThatAreNoCopys) {
  Put("m", 4);
  CopyTo(kGpu, "m");
  const std::string copy = Copies().at(0);
  const std::string place = copy.substr(0, copy.rfind('.'));
  const std::vector<std::string> names = {"gpu.", place, place + ".", place + ".GPU-0", copy + ".x",
                                          // Also a GPU's, but not so written.
                                          place + "." + kGpu.ToText().substr(4)};
  for (const std::string& name : names) {
    fds_.Store(name, fds_.Find(copy));
  }
  // Of no model.
  fds_.Store("gpu." + std::string(32, '0') + "." + kGpu.ToText(), fds_.Find(copy));
  NextOnGpus();
  AwaitReadopted(2);
  EXPECT_EQ(cache_->Readoption().unknown, names.size());
  EXPECT_EQ(trail_->Count(EventKind::kNotReadopted), 2) << "they are told at once";
  EXPECT_EQ(Where("m"), std::vector<GpuId>{kGpu});
  EXPECT_EQ(fds_.Names().size(), 4u);
}

}  // namespace
}  // namespace weightd::cache
