#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "tests/daemon/cache/cache_fixture.h"

namespace weightd::cache {
namespace {

class RoomTest : public CacheTest {
 protected:
  void PutFour(uint64_t pages) {
    for (const char* name : {"a", "b", "c", "d"}) {
      Put(name, pages);
    }
  }
  std::string Resident() {
    std::string names;
    for (const char* name : {"a", "b", "c", "d"}) {
      names += IsResident(name) ? name : "";
    }
    return names;
  }
};

TEST_F(RoomTest, TheLeastRecentlyUsedModelMakesRoom) {
  Start(30);
  PutFour(9);
  Load("a");
  Load("b");
  Load("c");
  Release(Lease("a"));
  Load("d");
  EXPECT_EQ(Resident(), "acd");
  EXPECT_EQ(UsedPages(), 30u);
  EXPECT_EQ(trail_->Await(EventKind::kEvicted).uri, Named("b"));
  EXPECT_EQ(trail_->Await(EventKind::kDrained).uri, Named("b"));
}

TEST_F(RoomTest, NoMoreIsEvictedThanNeeded) {
  // Of "a" and "b", the oldest, only "b" is large enough.
  Start(29);
  PutFour(9);
  Put("a", 1);
  Load("a");
  Load("b");
  Load("c");
  Load("d");
  EXPECT_EQ(Resident(), "acd");
}

TEST_F(RoomTest, LeasedModelsStayWhateverThePressure) {
  Start(30);
  PutFour(9);
  Lease("a");
  Lease("b");
  const LeaseId last = Lease("c");
  const auto refused = Acquire("d")->Await();
  EXPECT_EQ(ReasonOf(refused.status()), Reason::kBudgetExceeded);
  EXPECT_NE(HintOf(refused.status()), "");
  EXPECT_EQ(Resident(), "abc");
  Release(last);
  EXPECT_TRUE(Acquire("d")->Await().ok());
  EXPECT_EQ(Resident(), "abd");
}

TEST_F(RoomTest, PinnedModelsStay) {
  Start(30);
  PutFour(9);
  EXPECT_TRUE(Preload("a", /*pin=*/true)->Await().ok());
  Load("b");
  Load("c");
  Load("d");
  EXPECT_EQ(Resident(), "acd");
  EXPECT_TRUE(cache_->Pin(Named("c"), true).ok());
  EXPECT_TRUE(cache_->Pin(Named("d"), true).ok());
  EXPECT_EQ(ReasonOf(Acquire("b")->Await().status()), Reason::kBudgetExceeded);
  EXPECT_TRUE(cache_->Pin(Named("c"), false).ok());
  Load("b");
  EXPECT_EQ(Resident(), "abd");
}

TEST_F(RoomTest, AModelLargerThanTheBudgetEvictsNothing) {
  Start(30);
  PutFour(9);
  Load("a");
  Put("huge", 30);
  const auto refused = Acquire("huge")->Await();
  EXPECT_EQ(ReasonOf(refused.status()), Reason::kBudgetExceeded);
  EXPECT_NE(refused.status().message().find("126976 bytes"), absl::string_view::npos)
      << refused.status();
  EXPECT_NE(refused.status().message().find("122880 bytes"), absl::string_view::npos)
      << refused.status();
  EXPECT_EQ(Resident(), "a");
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(RoomTest, WhatCannotSufficeIsNotEvicted) {
  Start(30);
  PutFour(9);
  Lease("a");
  Load("b");
  Load("c");
  Put("large", 20);
  EXPECT_EQ(ReasonOf(Acquire("large")->Await().status()), Reason::kBudgetExceeded);
  EXPECT_EQ(Resident(), "abc");
}

TEST_F(RoomTest, AReleasedModelThatIsStillMappedIsNoHelp) {
  Start(30);
  PutFour(9);
  const LeaseId lease = Lease("a");
  {
    auto handles = cache_->Claim(kAlice, lease);
    ASSERT_TRUE(handles.ok());
    handles->back().fd.Reset();
    Release(lease);
    Load("b");
    Load("c");
    Load("d");
    EXPECT_EQ(Resident(), "acd");
  }
  Load("b");
  EXPECT_EQ(Resident(), "bcd");
}

TEST_F(RoomTest, AShortMachineMakesRoomToo) {
  Start(100);
  PutFour(9);
  Load("a");
  Load("b");
  Stop();

  host::HostTierOptions options;
  options.budget = 100 * kPageBytes;
  options.huge_pages = false;
  std::weak_ptr<host::HostTier> tier;
  options.available_memory = [&tier]() -> uint64_t {
    return 25 * kPageBytes - tier.lock()->usage().resident;
  };
  tier_ = std::make_shared<host::HostTier>(options);
  tier = tier_;
  cache_ = Cache::Create({}, tier_, &store_);
  trail_ = std::make_unique<EventTrail>(cache_->events());
  Load("a");
  Load("b");
  Load("c");
  EXPECT_EQ(Resident(), "bc");
  Put("large", 26);
  EXPECT_EQ(ReasonOf(Acquire("large")->Await().status()), Reason::kHostMemoryShort);
  EXPECT_EQ(Resident(), "bc");
}

TEST_F(RoomTest, MemoryThatCameBackMeanwhileSparesTheVictim) {
  Start(100);
  PutFour(9);
  Stop();
  host::HostTierOptions options;
  options.budget = 100 * kPageBytes;
  options.huge_pages = false;
  std::atomic<int> short_answers = 0;
  options.available_memory = [&short_answers] {
    return short_answers-- > 0 ? uint64_t{0} : uint64_t{1} << 40;
  };
  tier_ = std::make_shared<host::HostTier>(options);
  cache_ = Cache::Create({}, tier_, &store_);
  trail_ = std::make_unique<EventTrail>(cache_->events());
  Load("a");
  // One refusal: the tier looks twice.
  short_answers = 2;
  Load("b");
  EXPECT_EQ(Resident(), "ab");
  EXPECT_EQ(trail_->Count(EventKind::kEvicted), 0);
}

}  // namespace
}  // namespace weightd::cache
