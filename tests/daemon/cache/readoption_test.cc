#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "daemon/cache/card.h"
#include "gtest/gtest.h"
#include "tests/daemon/cache/readoption_fixture.h"
#include "tests/fakes/fake_loader.h"

namespace weightd::cache {
namespace {

TEST_F(ReadoptionTest, AModelComesBackWithoutALoad) {
  Put("m", 4);
  Release(Lease("m"));
  Release(Lease("m", kBob), kBob);
  const ModelSnapshot before = *cache_->Model(Named("m"));
  EXPECT_EQ(before.uses, 2u);
  EXPECT_FALSE(before.readopted);
  EXPECT_EQ(fds_.Names().size(), 3u);
  for (int daemon = 0; daemon < 3; ++daemon) {
    Next();
    const ModelSnapshot after = *cache_->Model(Named("m"));
    EXPECT_EQ(after.state, ModelState::kResident);
    EXPECT_TRUE(after.readopted);
    EXPECT_EQ(after.uses, 2u);
    EXPECT_EQ(after.revision, before.revision);
    EXPECT_EQ(after.host_bytes, before.host_bytes);
    EXPECT_EQ(absl::ToUnixMicros(after.loaded_at), absl::ToUnixMicros(before.loaded_at));
    EXPECT_EQ(absl::ToUnixMicros(after.last_used_at), absl::ToUnixMicros(before.last_used_at));
    EXPECT_EQ(UsedPages(), 5u);
    EXPECT_EQ(fds_.Names().size(), 3u) << "stored again, it is there once";
  }
  const LeaseId lease = Lease("m");
  EXPECT_EQ(Claim(lease).size(), 2u);
  EXPECT_EQ(cache_->Model(Named("m"))->uses, 3u);
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_EQ(store_.resolves(), 1) << "asked lately, its source is not asked again";
}

TEST_F(ReadoptionTest, ItsPlaceIsMarkedAndStaysSo) {
  Put("m", 4, 1);
  Load("m");
  const auto unmarked = fds_.NamesOf(".weights");
  Next(kBudget, {.store_mark = "FACE000000000000"});
  EXPECT_TRUE(IsResident("m")) << "of a build that gave no marks";
  EXPECT_EQ(fds_.NamesOf(".weights"), unmarked);
  Put("n", 4, 2);
  Load("n");
  EXPECT_EQ(fds_.Names().size(), 6u);
  auto names = fds_.NamesOf(".weights");
  std::erase(names, unmarked[0]);
  ASSERT_EQ(names.size(), 1u);
  EXPECT_EQ(names[0].substr(0, 21), "host.FACE000000000000");
  EXPECT_EQ(names[0].size(), unmarked[0].size());
  Next();
  EXPECT_TRUE(IsResident("n"));
  EXPECT_EQ(cache_->Readoption().readopted, 2u);
}

TEST_F(ReadoptionTest, ItsSourceIsAskedWhenItIsDue) {
  Put("m", 4);
  Load("m");
  Next(kBudget, {.revalidate = absl::ZeroDuration()});
  Put("m", 6, /*revision=*/2);
  Release(Lease("m"));
  trail_->Await(EventKind::kSuperseded);
  EXPECT_EQ(cache_->Model(Named("m"))->revision, fakes::MakeRevision(2));
  EXPECT_FALSE(cache_->Model(Named("m"))->readopted);
}

TEST_F(ReadoptionTest, AnOperatorsPinComesBackAndTheConfigsIsTheConfigs) {
  Put("a", 4, 1);
  Put("b", 4, 2);
  Load("a");
  Load("b");
  ASSERT_TRUE(cache_->Pin(Named("a"), true).ok());
  cache_->PinForConfig(Named("b"), true);
  for (int daemon = 0; daemon < 2; ++daemon) {
    Next();
    EXPECT_TRUE(cache_->Model(Named("a"))->pinned);
    EXPECT_FALSE(cache_->Model(Named("b"))->pinned);
    EXPECT_EQ(ReasonOf(cache_->Evict(Named("a"), false).status()), Reason::kModelPinned);
  }
  ASSERT_TRUE(cache_->Pin(Named("a"), false).ok());
  Next();
  EXPECT_FALSE(cache_->Model(Named("a"))->pinned);
}

TEST_F(ReadoptionTest, APinGoesOverToTheNextRevision) {
  Put("m", 4);
  Load("m");
  ASSERT_TRUE(cache_->Pin(Named("m"), true).ok());
  Next(kBudget, {.revalidate = absl::ZeroDuration()});
  Put("m", 6, /*revision=*/2);
  Load("m");
  trail_->Await(EventKind::kDrained);
  Next();
  EXPECT_EQ(cache_->Model(Named("m"))->revision, fakes::MakeRevision(2));
  EXPECT_TRUE(cache_->Model(Named("m"))->pinned);
  EXPECT_EQ(UsedPages(), 7u);
}

TEST_F(ReadoptionTest, TheLeastRecentlyUsedLeavesFirst) {
  Put("a", 29, 1);
  Put("b", 30, 2);
  Put("c", 31, 3);
  for (const char* const name : {"a", "b", "c", "a"}) {
    Load(name);
  }
  Next();
  Put("d", 25, 4);
  Load("d");
  EXPECT_TRUE(IsResident("a"));
  EXPECT_FALSE(IsResident("b"));
  EXPECT_TRUE(IsResident("c"));
}

TEST_F(ReadoptionTest, WhatIsEvictedLeavesTheStore) {
  Put("m", 4);
  Load("m");
  ASSERT_TRUE(cache_->Evict(Named("m"), false).ok());
  trail_->Await(EventKind::kDrained);
  EXPECT_TRUE(fds_.Names().empty());
  Next();
  EXPECT_FALSE(IsResident("m"));
  EXPECT_EQ(UsedPages(), 0u);
}

TEST_F(ReadoptionTest, ALoadThatFailsLeavesNothingThere) {
  Put("m", 4);
  store_.ChangeDuringLoads(Named("m"), 2);
  EXPECT_FALSE(Preload("m")->Await().ok());
  EXPECT_TRUE(fds_.Names().empty());
}

TEST_F(ReadoptionTest, ADaemonThatEndsAtOnceTakesNothingAlong) {
  Put("m", 4);
  Load("m");
  Next();
  Next();
  Stop();
  tier_.reset();
  EXPECT_EQ(fds_.Names().size(), 3u);
}

TEST_F(ReadoptionTest, WhatDrainedDrainsOn) {
  Put("m", 4);
  std::vector<ClaimedHandle> mapped = Claim(Lease("m"));
  ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/true).ok());
  AwaitResidentPages(0);
  for (int daemon = 0; daemon < 2; ++daemon) {
    Next();
    EXPECT_FALSE(IsResident("m"));
    AwaitResidentPages(0);
    EXPECT_EQ(cache_->Usage().draining, 5 * kPageBytes);
    EXPECT_EQ(cache_->HeldBy("test").draining, 5 * kPageBytes);
    EXPECT_EQ(fds_.Names().size(), 3u);
  }
  // The index first; the weights are still there for the next daemon.
  mapped.pop_back();
  AwaitDraining(4);
  EXPECT_EQ(fds_.Names().size(), 2u);
  Next();
  AwaitResidentPages(0);
  EXPECT_EQ(cache_->Usage().draining, 4 * kPageBytes);
  EXPECT_EQ(trail_->Count(EventKind::kNotReadopted), 0);
  mapped.clear();
  AwaitDraining(0);
  EXPECT_TRUE(fds_.Names().empty());
}

TEST_F(ReadoptionTest, WhatSomebodyMapsIsInUse) {
  Put("m", 49, 1);
  Put("n", 39, 2);
  const std::vector<ClaimedHandle> mapped = Claim(Lease("m"));
  Load("n");
  Next();
  EXPECT_EQ(cache_->Leases().size(), 0u);
  EXPECT_EQ(cache_->HeldBy("test").draining, 50 * kPageBytes);
  Put("o", 29, 3);
  Load("o");
  EXPECT_TRUE(IsResident("m")) << "used less lately than the other, but mapped";
  EXPECT_FALSE(IsResident("n"));
  Put("p", 60, 4);
  EXPECT_EQ(ReasonOf(Preload("p")->Await().status()), Reason::kBudgetExceeded);
  // An eviction lets it drain.
  const auto evicted = cache_->Evict(Named("m"), /*force=*/false);
  ASSERT_TRUE(evicted.ok());
  EXPECT_EQ(evicted->draining_bytes, 50 * kPageBytes);
}

TEST_F(ReadoptionTest, WhatWasSupersededDrains) {
  Put("m", 4);
  const std::vector<ClaimedHandle> mapped = Claim(Lease("m"));
  Next(kBudget, {.revalidate = absl::ZeroDuration()});
  Put("m", 6, /*revision=*/2);
  Lease("m");
  trail_->Await(EventKind::kSuperseded);
  EXPECT_EQ(fds_.Names().size(), 6u);
  Next();
  EXPECT_EQ(cache_->Model(Named("m"))->revision, fakes::MakeRevision(2));
  EXPECT_EQ(cache_->Models().size(), 1u);
  AwaitResidentPages(7);
  EXPECT_EQ(cache_->Usage().draining, 5 * kPageBytes);
}

TEST_F(ReadoptionTest, ARevisionThatWasStoredInPartGivesWayToTheOneBefore) {
  Put("m", 4);
  const std::vector<ClaimedHandle> mapped = Claim(Lease("m"));
  Next(kBudget, {.revalidate = absl::ZeroDuration()});
  const std::vector<std::string> before = fds_.NamesOf(".weights");
  Put("m", 6, /*revision=*/2);
  Lease("m");
  trail_->Await(EventKind::kSuperseded);
  // As if the daemon had died while it stored it, or the store were full.
  for (const std::string& name : fds_.NamesOf(".weights")) {
    if (name != before.front()) {
      fds_.Remove(name);
    }
  }
  Next();
  EXPECT_EQ(cache_->Model(Named("m"))->revision, fakes::MakeRevision(1));
  AwaitResidentPages(5);
  AwaitStored(3);
}

TEST_F(ReadoptionTest, TheHighestRankOfAllIsBelievedByNobody) {
  Put("m", 4);
  Load("m");
  Card::Open(fds_.Find(fds_.NamesOf(".card").front())).value().card->SetRank(~uint64_t{0});
  for (int daemon = 0; daemon < 3; ++daemon) {
    Next();
    EXPECT_TRUE(IsResident("m"));
  }
}

TEST_F(ReadoptionTest, OneRevisionThatIsThereTwiceIsServedOnce) {
  Put("m", 4);
  const std::vector<ClaimedHandle> mapped = Claim(Lease("m"));
  ASSERT_TRUE(cache_->Evict(Named("m"), /*force=*/true).ok());
  AwaitResidentPages(0);
  Load("m");
  EXPECT_EQ(fds_.Names().size(), 6u);
  // As if the daemon had died before it said so on the card.
  for (const std::string& name : fds_.NamesOf(".card")) {
    const Card::Found found = Card::Open(fds_.Find(name)).value();
    found.card->SetRank(found.card->rank() == 0 ? 1 : 2);
  }
  Next();
  EXPECT_EQ(cache_->Models().size(), 1u);
  AwaitResidentPages(5);
  EXPECT_EQ(cache_->Usage().draining, 5 * kPageBytes);
  EXPECT_EQ(fds_.Names().size(), 6u);
}

TEST_F(ReadoptionTest, ASmallerBudgetTakesWhatIsMappedThenWhatIsPinnedThenWhatWasUsedLast) {
  Put("mapped", 19, 1);
  Put("pinned", 20, 2);
  Put("old", 21, 3);
  Put("new", 22, 4);
  const std::vector<ClaimedHandle> mapped = Claim(Lease("mapped"));
  for (const char* const name : {"pinned", "old", "new"}) {
    Load(name);
  }
  ASSERT_TRUE(cache_->Pin(Named("pinned"), true).ok());
  Next(/*budget=*/70);
  EXPECT_TRUE(IsResident("mapped"));
  EXPECT_TRUE(IsResident("pinned"));
  EXPECT_TRUE(IsResident("new"));
  EXPECT_FALSE(IsResident("old"));
  const Event refused = trail_->Await(EventKind::kNotReadopted);
  EXPECT_EQ(refused.uri, Named("old"));
  EXPECT_TRUE(absl::StrContains(refused.error.message(), "host memory")) << refused.error;
  AwaitResidentPages(20 + 21 + 23);
  AwaitStored(9);
}

TEST_F(ReadoptionTest, WhatIsMappedAndHasNoRoomDrainsBeyondTheBudget) {
  Put("mapped", 40, 1);
  std::vector<ClaimedHandle> mapped = Claim(Lease("mapped"));
  ASSERT_TRUE(cache_->Pin(Named("mapped"), true).ok());
  for (int daemon = 0; daemon < 2; ++daemon) {
    Next(/*budget=*/20);
    EXPECT_FALSE(IsResident("mapped"));
    AwaitDraining(41);
    EXPECT_EQ(cache_->HeldBy("test").draining, 41 * kPageBytes);
    EXPECT_EQ(cache_->Draining().size(), 2u);
    EXPECT_EQ(fds_.Names().size(), 3u) << "the next daemon has to know, too";
  }
  Next(/*budget=*/20);
  Put("small", 9, 2);
  EXPECT_EQ(ReasonOf(Preload("small")->Await().status()), Reason::kBudgetExceeded);
  mapped.clear();
  AwaitDraining(0);
  AwaitStored(0);
  Load("small");
  EXPECT_EQ(UsedPages(), 10u);
}

TEST_F(ReadoptionTest, ItIsToldThatSomethingDrainsBeyondTheBudget) {
  Put("mapped", 40, 1);
  const std::vector<ClaimedHandle> mapped = Claim(Lease("mapped"));
  ASSERT_TRUE(cache_->Pin(Named("mapped"), true).ok());
  Next(/*budget=*/20);
  EXPECT_TRUE(absl::StrContains(Complaint(), "clients still map it: it drains")) << Complaint();
  const ReadoptionSnapshot readoption = cache_->Readoption();
  ASSERT_EQ(readoption.failures.size(), 1u);
  EXPECT_EQ(readoption.failures[0].uri, Named("mapped"));
  EXPECT_EQ(readoption.pins_lost, 1u);
  EXPECT_EQ(HintOf(readoption.failures[0].why),
            "end those clients, or raise the host budget in the config");
}

TEST_F(ReadoptionTest, LoadsMakeRoomBesideWhatDrainsBeyondTheBudget) {
  Put("drains", 40, 1);
  Put("stays", 20, 2);
  const std::vector<ClaimedHandle> drains = Claim(Lease("drains"));
  std::vector<ClaimedHandle> stays = Claim(Lease("stays"));
  Next(/*budget=*/60);
  EXPECT_TRUE(IsResident("stays"));
  AwaitDraining(41);
  EXPECT_EQ(UsedPages(), 62u);
  stays.clear();
  Put("small", 9, 3);
  Load("small");
  EXPECT_FALSE(IsResident("stays"));
  EXPECT_EQ(UsedPages(), 51u);
}

TEST_F(ReadoptionTest, WhatTheConfigPinsGoesBeforeWhatWasUsedLast) {
  Put("configured", 20, 1);
  Put("new", 22, 2);
  Load("configured");
  Load("new");
  const auto options = [] {
    return CacheOptions{
        .pinned_by_config = [](const Uri& uri) { return uri == Named("configured"); }};
  };
  Next(/*budget=*/30, options());
  EXPECT_TRUE(IsResident("configured"));
  EXPECT_FALSE(IsResident("new"));
}

CacheOptions Verifying(pipeline::VerifyPolicy policy) {
  return {.verify_of = [policy](const Uri&) { return policy; }};
}

TEST_F(ReadoptionTest, WhatWasVerifiedLessThanTheConfigWantsByNowIsLoadedAgain) {
  using enum pipeline::VerifyPolicy;
  Next(kBudget, Verifying(kNever));
  Put("m", 4);
  Load("m");
  Rewrite([](CardFacts& facts) { facts.index.tensor_proof.unverified = 1; });
  Next(kBudget, Verifying(kNever));
  EXPECT_TRUE(IsResident("m"));
  Next(kBudget, Verifying(kFast));
  EXPECT_FALSE(IsResident("m"));
  EXPECT_TRUE(absl::StrContains(Complaint(), "verify")) << Complaint();
  AwaitStored(0);
  Load("m");
  Rewrite([](CardFacts& facts) { facts.index.tensor_proof.crc32 = 1; });
  for (const auto policy : {kFast, kNever, kFast}) {
    Next(kBudget, Verifying(policy));
    EXPECT_TRUE(IsResident("m")) << "verified as closely, or more so";
  }
}

TEST_F(ReadoptionTest, WhatHasNoChecksumsComesBackHoweverTheyAreToBeVerified) {
  Next(kBudget, Verifying(pipeline::VerifyPolicy::kNever));
  Put("m", 4);
  Load("m");
  Next(kBudget, Verifying(pipeline::VerifyPolicy::kFull));
  EXPECT_TRUE(IsResident("m"));
}

TEST_F(ReadoptionTest, NoStoreNoKeeping) {
  Stop();
  tier_.reset();
  Start(kBudget);
  Put("m", 4);
  Load("m");
  cache_->Readopt({});
  EXPECT_TRUE(fds_.Names().empty());
  EXPECT_EQ(trail_->Count(EventKind::kNotKept), 0);
}

}  // namespace
}  // namespace weightd::cache
