#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "common/mapping.h"
#include "tests/daemon/cache/cache_fixture.h"

namespace weightd::cache {
namespace {

class RevalidationTest : public CacheTest {
 protected:
  static CacheOptions Always() {
    CacheOptions options;
    options.revalidate = absl::ZeroDuration();
    return options;
  }

  // Starts with revision 2 of a model in the place of its first one; a session leases each.
  void StartSuperseded(const std::string& name) {
    Start(100, Always());
    Put(name, 4, /*revision=*/1);
    Lease(name);
    Put(name, 4, /*revision=*/2);
    Lease(name, kBob);
    trail_->Await(EventKind::kSuperseded);
  }
};

TEST_F(RevalidationTest, ANewRevisionReplacesTheOld) {
  Start(100, Always());
  Put("m", 4, /*revision=*/1);
  Load("m");
  Put("m", 6, /*revision=*/2);
  const auto old = Acquire("m")->Await();
  ASSERT_TRUE(old.ok());
  EXPECT_EQ(old->model.revision, fakes::MakeRevision(1));
  EXPECT_EQ(trail_->Await(EventKind::kSuperseded).revision, fakes::MakeRevision(1));

  const auto now = Acquire("m", kBob)->Await();
  ASSERT_TRUE(now.ok());
  EXPECT_EQ(now->model.revision, fakes::MakeRevision(2));

  // The old one stays for those who lease it, and can still be asked for.
  EXPECT_EQ(UsedPages(), 5u + 7u);
  const auto by_name = Acquire("m", kBob, false, "00000001")->Await();
  ASSERT_TRUE(by_name.ok());
  EXPECT_EQ(by_name->model.state, ModelState::kDraining);
  const auto models = cache_->Models();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0].state, ModelState::kDraining);
  EXPECT_EQ(models[0].leases, 2u);
  EXPECT_EQ(models[1].state, ModelState::kResident);

  Release(old->lease);
  Release(by_name->lease, kBob);
  EXPECT_EQ(trail_->Await(EventKind::kDrained).revision, fakes::MakeRevision(1));
  EXPECT_EQ(UsedPages(), 7u);
  EXPECT_FALSE(Acquire("m", kBob, false, "00000001")->Await().ok());
}

TEST_F(RevalidationTest, ASourceIsAskedOnlyForTheSmallFilesThatTheModelHas) {
  Start(100, Always());
  Put("m", 4);
  store_.PutSmallFiles(Named("m"), {"config.json", "vocab.txt"});
  Load("m");
  EXPECT_EQ(store_.last_known(), std::nullopt) << "a load looks for all";
  Lease("m");
  store_.AwaitResolves(2);
  EXPECT_EQ(store_.last_known(), (pipeline::KnownSmallFiles({"config.json", "vocab.txt"})));
  Put("bare", 4);
  Load("bare");
  Lease("bare");
  store_.AwaitResolves(4);
  EXPECT_EQ(store_.last_known(), pipeline::KnownSmallFiles(std::vector<std::string>()));
}

TEST_F(RevalidationTest, ASupersededRevisionKeepsItsSmallFiles) {
  Start(100, Always());
  Put("m", 4, /*revision=*/1);
  store_.PutSmallFiles(Named("m"), {"config.json"});
  const LeaseId old = Lease("m");
  Put("m", 4, /*revision=*/2);
  Lease("m", kBob);
  trail_->Await(EventKind::kSuperseded);
  EXPECT_EQ(store_.last_known(), std::nullopt) << "what is new may have others";
  auto kept = cache_->Claim(kAlice, old);
  ASSERT_TRUE(kept.ok()) << kept.status();
  const auto mapping =
      Mapping::Map(kept->back().fd.get(), kPageBytes, Mapping::Access::kSharedReadOnly);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ(static_cast<int>(mapping->span()[0]), 1) << "of the old one's own";
}

TEST_F(RevalidationTest, AnUnleasedOldRevisionLeavesAtOnce) {
  Start(100, Always());
  Put("m", 4, /*revision=*/1);
  Load("m");
  Put("m", 4, /*revision=*/2);
  Load("m");
  EXPECT_EQ(trail_->Await(EventKind::kDrained).revision, fakes::MakeRevision(1));
  EXPECT_EQ(UsedPages(), 5u);
  EXPECT_EQ(cache_->Model(Named("m"))->revision, fakes::MakeRevision(2));
}

TEST_F(RevalidationTest, NewsThatTakesLongKeepsNobodyWaiting) {
  CacheOptions options = Always();
  options.max_loads = 1;
  Start(100, options);
  Put("m", 4, /*revision=*/1);
  EXPECT_TRUE(Acquire("m")->Await().ok());
  store_.CloseGate();
  Put("m", 4, /*revision=*/2);
  EXPECT_TRUE(Acquire("m")->Await().ok());
  store_.AwaitLoads(2);
  Put("other", 4);
  const auto other = Acquire("other");
  store_.AwaitLoads(3);
  store_.OpenGate();
  EXPECT_TRUE(other->Await().ok());
}

TEST_F(RevalidationTest, ThePinGoesOverToTheNewRevision) {
  Start(11, Always());
  Put("m", 4, /*revision=*/1);
  EXPECT_TRUE(Preload("m", /*pin=*/true)->Await().ok());
  Put("m", 4, /*revision=*/2);
  Load("m");
  trail_->Await(EventKind::kDrained);
  EXPECT_TRUE(cache_->Model(Named("m"))->pinned);
  Put("other", 9);
  EXPECT_EQ(ReasonOf(Acquire("other")->Await().status()), Reason::kBudgetExceeded);
  EXPECT_TRUE(cache_->Pin(Named("m"), false).ok());
  EXPECT_TRUE(Acquire("other")->Await().ok());
}

TEST_F(RevalidationTest, WhatIsSupersededIsNotEvictedAsWell) {
  StartSuperseded("m");
  EXPECT_TRUE(cache_->Evict(Named("m"), /*force=*/true).ok());
  EXPECT_EQ(trail_->Await(EventKind::kEvicted).revision, fakes::MakeRevision(2));
  EXPECT_EQ(trail_->Count(EventKind::kEvicted), 1);
  EXPECT_TRUE(cache_->Leases().empty());
}

TEST_F(RevalidationTest, ARevisionThatComesBackIsNotLoadedAgain) {
  StartSuperseded("m");
  Put("m", 4, /*revision=*/1);
  Lease("m", kBob);
  EXPECT_EQ(trail_->Await(EventKind::kSuperseded, 2).revision, fakes::MakeRevision(2));
  EXPECT_EQ(cache_->Model(Named("m"))->revision, fakes::MakeRevision(1));
  EXPECT_EQ(store_.loads(), 2);
}

TEST_F(RevalidationTest, APinThatWentAndCameBackIsUndoneOnce) {
  Start(100, Always());
  Put("m", 4, /*revision=*/1);
  EXPECT_TRUE(Preload("m", /*pin=*/true)->Await().ok());
  Put("m", 4, /*revision=*/2);
  const LeaseId lease = Lease("m");
  trail_->Await(EventKind::kSuperseded);
  Put("m", 4, /*revision=*/1);
  Load("m");
  trail_->Await(EventKind::kSuperseded, 2);
  Release(lease);
  EXPECT_TRUE(cache_->Pin(Named("m"), false).ok());
  Put("large", 99);
  EXPECT_TRUE(Acquire("large")->Await().ok());
}

TEST_F(RevalidationTest, AStoreThatIsDownLeavesTheResidentOneStale) {
  Start(100, Always());
  Put("m", 4);
  Load("m");
  store_.FailResolves(Error(Reason::kSourceUnavailable, "down"));
  EXPECT_TRUE(Acquire("m")->Await().ok());
  const Event stale = trail_->Await(EventKind::kStale);
  EXPECT_EQ(ReasonOf(stale.error), Reason::kSourceUnavailable);
  const auto grant = Acquire("m")->Await();
  ASSERT_TRUE(grant.ok());
  EXPECT_TRUE(grant->model.stale);

  store_.FailResolves(absl::OkStatus());
  Put("m", 4, /*revision=*/2);
  // A check that found the store down may still be at work.
  while (trail_->Count(EventKind::kSuperseded) == 0) {
    const int before = store_.resolves();
    EXPECT_TRUE(Acquire("m")->Await().ok());
    if (store_.resolves() == before) {
      std::this_thread::yield();
    }
  }
  EXPECT_FALSE(cache_->Model(Named("m"))->stale);
}

TEST_F(RevalidationTest, ANewRevisionThatDoesNotFitLeavesTheOldOne) {
  Start(10, Always());
  Put("m", 4, /*revision=*/1);
  Lease("m");
  Put("m", 8, /*revision=*/2);
  Lease("m", kBob);
  const Event failed = trail_->Await(EventKind::kLoadFailed);
  const Event stale = trail_->Await(EventKind::kStale);
  EXPECT_EQ(stale.revision, fakes::MakeRevision(1));
  EXPECT_EQ(ReasonOf(stale.error), Reason::kBudgetExceeded);
  EXPECT_EQ(ReasonOf(failed.error), Reason::kBudgetExceeded);
  const auto model = cache_->Model(Named("m"));
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->revision, fakes::MakeRevision(1));
  EXPECT_TRUE(model->stale);
  EXPECT_NE(model->last_error, "");
}

TEST_F(RevalidationTest, WithinTheIntervalNothingIsAsked) {
  Start(100);
  Put("m", 4);
  Load("m");
  for (int i = 0; i < 20; ++i) {
    Lease("m");
  }
  EXPECT_EQ(store_.resolves(), 1);
}

TEST_F(RevalidationTest, NeverMeansNever) {
  CacheOptions options;
  options.revalidate = absl::InfiniteDuration();
  Start(100, options);
  Put("m", 4);
  Load("m");
  Lease("m");
  EXPECT_EQ(store_.resolves(), 1);
}

}  // namespace
}  // namespace weightd::cache
