#include <gtest/gtest.h>

#include "tests/daemon/cache/cache_fixture.h"

namespace weightd::cache {
namespace {

class OperatorsTest : public CacheTest {};

TEST_F(OperatorsTest, EvictFreesWhatNobodyHolds) {
  Start(100);
  Put("m", 4);
  Load("m");
  const auto result = cache_->Evict(Named("m"), /*force=*/false);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->freed_bytes, 5 * kPageBytes);
  EXPECT_EQ(result->draining_bytes, 0u);
  EXPECT_EQ(trail_->Await(EventKind::kDrained).bytes, 5 * kPageBytes);
  EXPECT_EQ(UsedPages(), 0u);
  EXPECT_EQ(ReasonOf(cache_->Model(Named("m")).status()), Reason::kModelNotResident);
  EXPECT_EQ(ReasonOf(cache_->Evict(Named("m"), true).status()), Reason::kModelNotResident);
}

TEST_F(OperatorsTest, WhatIsLoadedAfterAnEvictionFindsItsRoom) {
  Start(100);
  for (int i = 0; i < 20; ++i) {
    const std::string name = "m" + std::to_string(i);
    Put(name, 99);
    Load(name);
    EXPECT_EQ(cache_->Evict(Named(name), /*force=*/false)->freed_bytes, 100 * kPageBytes);
  }
}

TEST_F(OperatorsTest, WhatIsBeingFreedSparesTheOthers) {
  Start(100);
  Put("a", 49);
  Put("b", 49);
  Put("c", 49);
  for (int i = 0; i < 20; ++i) {
    Load("a");
    Load("b");
    EXPECT_TRUE(cache_->Evict(Named("b"), /*force=*/false).ok());
    Load("c");
    EXPECT_TRUE(IsResident("a"));
    EXPECT_TRUE(cache_->Evict(Named("c"), /*force=*/false).ok());
  }
}

TEST_F(OperatorsTest, AModelThatNamesTheRevisionOfAnotherIsNotTakenForIt) {
  Start(100);
  Put("m", 4, /*revision=*/1);
  Put("of-00000001", 4, /*revision=*/2);
  const LeaseId lease = Lease("of-00000001");
  auto handles = cache_->Claim(kAlice, lease);
  ASSERT_TRUE(handles.ok());
  EXPECT_TRUE(cache_->Evict(Named("of-00000001"), /*force=*/true).ok());
  Load("m");
  EXPECT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
  EXPECT_EQ(trail_->Await(EventKind::kDrained).uri, Named("m"));
}

TEST_F(OperatorsTest, EvictRefusesWhatIsLeasedOrPinned) {
  Start(100);
  Put("m", 4);
  const LeaseId lease = Lease("m");
  EXPECT_EQ(ReasonOf(cache_->Evict(Named("m"), false).status()), Reason::kModelInUse);
  Release(lease);
  ASSERT_TRUE(cache_->Pin(Named("m"), true).ok());
  EXPECT_EQ(ReasonOf(cache_->Evict(Named("m"), false).status()), Reason::kModelPinned);
  EXPECT_TRUE(IsResident("m"));
  EXPECT_TRUE(cache_->Evict(Named("m"), true).ok());
  Load("m");
  EXPECT_FALSE(cache_->Model(Named("m"))->pinned);
}

TEST_F(OperatorsTest, ForcedEvictionDrainsUntilClientsLetGo) {
  Start(100);
  Put("m", 4);
  const LeaseId lease = Lease("m");
  {
    auto handles = cache_->Claim(kAlice, lease);
    ASSERT_TRUE(handles.ok());
    const auto result = cache_->Evict(Named("m"), /*force=*/true);
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->draining_bytes, 5 * kPageBytes);
    AwaitResidentPages(0);
    EXPECT_EQ(cache_->Usage().draining, 5 * kPageBytes);
    EXPECT_EQ(cache_->Draining().size(), 2u);
    EXPECT_EQ(trail_->Await(EventKind::kLeaseEnded).lease, lease);
    EXPECT_EQ(cache_->Leases().size(), 0u);
    EXPECT_EQ(ReasonOf(cache_->Claim(kAlice, lease).status()), Reason::kLeaseUnknown);

    // A new acquire loads it again, beside what drains.
    EXPECT_NE(Lease("m", kBob), lease);
    EXPECT_EQ(store_.loads(), 2);
    EXPECT_EQ(UsedPages(), 10u);
    EXPECT_EQ(trail_->Count(EventKind::kDrained), 0);
  }
  const Event drained = trail_->Await(EventKind::kDrained);
  EXPECT_EQ(drained.uri, Named("m"));
  EXPECT_EQ(drained.bytes, 5 * kPageBytes);
  EXPECT_EQ(UsedPages(), 5u);
  // Its session may still give the lease back, once.
  Release(lease);
  EXPECT_EQ(cache_->Model(Named("m"))->leases, 1u);
}

TEST_F(OperatorsTest, APreloadThatMayNotLoadOnlyLooksAtWhatIsThere) {
  Start(100);
  Put("m", 4);
  const auto look = [&] {
    Call call;
    call.Keep(
        cache_->Preload({.uri = Named("m"), .policy = {}, .may_load = false}, call.ForPreload()));
    return ReasonOf(call.Await().status());
  };
  EXPECT_EQ(look(), Reason::kModelNotResident);
  EXPECT_EQ(store_.loads(), 0);
  Load("m");
  EXPECT_EQ(look(), Reason::kUnspecified);
}

TEST_F(OperatorsTest, EvictCancelsARunningLoad) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto client = Acquire("m");
  const auto preload = Preload("m");
  store_.AwaitLoads(1);
  EXPECT_TRUE(cache_->Evict(Named("m"), false).ok());
  EXPECT_EQ(ReasonOf(client->Await().status()), Reason::kCancelled);
  EXPECT_EQ(ReasonOf(preload->Await().status()), Reason::kCancelled);
  store_.AwaitIdle();
  EXPECT_EQ(UsedPages(), 0u);
  EXPECT_FALSE(IsResident("m"));
}

TEST_F(OperatorsTest, PinsAreForResidentModels) {
  Start(100);
  Put("m", 4);
  EXPECT_EQ(ReasonOf(cache_->Pin(Named("m"), true).status()), Reason::kModelNotResident);
  Load("m");
  EXPECT_TRUE(cache_->Pin(Named("m"), true)->pinned);
  EXPECT_TRUE(cache_->Pin(Named("m"), true)->pinned);
  EXPECT_FALSE(cache_->Pin(Named("m"), false)->pinned);
  EXPECT_EQ(trail_->Count(EventKind::kPinned), 1);
  EXPECT_EQ(trail_->Count(EventKind::kUnpinned), 1);
}

TEST_F(OperatorsTest, AnOperatorsPinOutlastsTheConfigs) {
  Start(100);
  Put("m", 4);
  Load("m");
  cache_->PinForConfig(Named("m"), true);
  EXPECT_TRUE(cache_->Model(Named("m"))->pinned);
  ASSERT_TRUE(cache_->Pin(Named("m"), true).ok());
  cache_->PinForConfig(Named("m"), false);
  EXPECT_TRUE(cache_->Model(Named("m"))->pinned);
  cache_->LetGo(Named("m"));
  EXPECT_TRUE(IsResident("m"));
  EXPECT_FALSE(cache_->Pin(Named("m"), false)->pinned);
  EXPECT_TRUE(IsResident("m"));
  EXPECT_EQ(trail_->Count(EventKind::kPinned), 1);
}

TEST_F(OperatorsTest, AnOperatorsUnpinEndsTheConfigsPin) {
  Start(100);
  Put("m", 4);
  Load("m");
  cache_->PinForConfig(Named("m"), true);
  EXPECT_FALSE(cache_->Pin(Named("m"), false)->pinned);
  EXPECT_EQ(trail_->Count(EventKind::kUnpinned), 1);
}

TEST_F(OperatorsTest, WhatIsLetGoLeavesWhenNobodyHoldsIt) {
  Start(100);
  Put("m", 4);
  cache_->LetGo(Named("m"));
  Load("m");
  EXPECT_TRUE(IsResident("m"));
  cache_->LetGo(Named("m"));
  EXPECT_FALSE(IsResident("m"));
  EXPECT_EQ(trail_->Count(EventKind::kEvicted), 1);

  const LeaseId one = Lease("m");
  cache_->LetGo(Named("m"));
  const LeaseId two = Lease("m", kBob);
  Release(one);
  EXPECT_TRUE(IsResident("m"));
  EXPECT_TRUE(cache_->Claim(kBob, two).ok());
  Release(two, kBob);
  EXPECT_FALSE(IsResident("m"));
  EXPECT_EQ(trail_->Count(EventKind::kEvicted), 2);
  AwaitResidentPages(0);
}

TEST_F(OperatorsTest, WhatWasLetGoStaysIfItIsAskedForAgain) {
  Start(100);
  for (const char* name : {"preloaded", "pinned"}) {
    Put(name, 4);
    const LeaseId lease = Lease(name);
    cache_->LetGo(Named(name));
    if (name == std::string("pinned")) {
      ASSERT_TRUE(cache_->Pin(Named(name), true).ok());
    } else {
      Load(name);
    }
    Release(lease);
    EXPECT_TRUE(IsResident(name));
  }
}

TEST_F(OperatorsTest, APreloadThatDoesNotGoOnEndsWithItsWait) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto begin = [this] {
    auto call = std::make_unique<Call>();
    call->Keep(
        cache_->Preload({.uri = Named("m"), .policy = {}, .goes_on = false}, call->ForPreload()));
    return call;
  };
  auto alone = begin();
  store_.AwaitLoads(1);
  EXPECT_FALSE(store_.awaited());
  alone->Leave();
  store_.AwaitIdle();
  EXPECT_EQ(trail_->Await(EventKind::kLoadFailed).uri, Named("m"));

  auto with_a_client = begin();
  store_.AwaitLoads(2);
  const auto client = Acquire("m");
  with_a_client->Leave();
  store_.OpenGate();
  EXPECT_TRUE(client->Await().ok());
}

TEST_F(OperatorsTest, ModelsAreListedInOrderWithTheirStates) {
  Start(100);
  for (const char* name : {"c", "a", "b"}) {
    Put(name, 4);
  }
  Load("c");
  EXPECT_FALSE(Acquire("absent")->Await().ok());
  Lease("a");
  store_.CloseGate();
  const auto loading = Acquire("b");
  store_.AwaitLoads(3);
  const std::vector<ModelSnapshot> models = cache_->Models();
  ASSERT_EQ(models.size(), 4u);
  EXPECT_EQ(models[0].uri, Named("a"));
  EXPECT_EQ(models[0].state, ModelState::kResident);
  EXPECT_EQ(models[0].leases, 1u);
  EXPECT_EQ(models[0].host_bytes, 5 * kPageBytes);
  EXPECT_EQ(models[1].uri, Named("absent"));
  EXPECT_EQ(models[1].state, ModelState::kAbsent);
  EXPECT_NE(models[1].last_error, "");
  EXPECT_EQ(models[2].uri, Named("b"));
  EXPECT_EQ(models[2].state, ModelState::kLoading);
  EXPECT_EQ(models[3].uri, Named("c"));
  store_.OpenGate();
  EXPECT_TRUE(loading->Await().ok());
}

TEST_F(OperatorsTest, FailuresAreRememberedOnlyForTheLastFewHundred) {
  Start(100);
  for (int i = 0; i < 300; ++i) {
    EXPECT_FALSE(Acquire("absent" + std::to_string(i))->Await().ok());
  }
  EXPECT_EQ(cache_->Models().size(), 256u);
  EXPECT_FALSE(cache_->Model(Named("absent0")).ok());
  EXPECT_TRUE(cache_->Model(Named("absent299")).ok());
}

}  // namespace
}  // namespace weightd::cache
