#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "common/status.h"
#include "gtest/gtest.h"
#include "tests/daemon/cache/readoption_fixture.h"
#include "tests/fakes/fake_loader.h"

namespace weightd::cache {
namespace {

// The store hangs as a daemon starts, and answers later.
class LateReadoptionTest : public ReadoptionTest {
 protected:
  void NextWithoutAnswer(uint64_t budget = kBudget) {
    fds_.Hang();
    Next(budget);
  }
};

TEST_F(LateReadoptionTest, WhatIsNotHereComesBack) {
  Put("a", 4, 1);
  Put("b", 6, 2);
  Load("a");
  Release(Lease("b"));
  ASSERT_TRUE(cache_->Pin(Named("b"), true).ok());
  NextWithoutAnswer();
  EXPECT_EQ(cache_->Models().size(), 0u);
  ASSERT_TRUE(fds_.Answer());
  EXPECT_TRUE(IsResident("a"));
  EXPECT_TRUE(cache_->Model(Named("b"))->pinned);
  EXPECT_EQ(cache_->Model(Named("b"))->uses, 1u);
  EXPECT_TRUE(cache_->Model(Named("b"))->readopted);
  EXPECT_EQ(UsedPages(), 12u);
  EXPECT_EQ(cache_->Readoption().readopted, 2u);
  EXPECT_EQ(trail_->Count(EventKind::kNotReadopted), 0);
  Release(Lease("a"));
  EXPECT_EQ(store_.loads(), 2);
  EXPECT_EQ(fds_.Names().size(), 6u);
  Next();
  EXPECT_EQ(cache_->Readoption().readopted, 2u);
}

TEST_F(LateReadoptionTest, WhatWasLoadedAgainLeavesTheStoreAndKeepsItsPin) {
  Put("m", 4);
  std::vector<ClaimedHandle> mapped = Claim(Lease("m"));
  ASSERT_TRUE(cache_->Pin(Named("m"), true).ok());
  NextWithoutAnswer();
  Load("m");
  ASSERT_TRUE(fds_.Answer());
  EXPECT_TRUE(absl::StrContains(Complaint(), "loaded again")) << Complaint();
  EXPECT_EQ(trail_->Await(EventKind::kNotReadopted).uri, Named("m"));
  EXPECT_FALSE(cache_->Model(Named("m"))->readopted);
  EXPECT_TRUE(cache_->Model(Named("m"))->pinned);
  EXPECT_EQ(cache_->Readoption().not_readopted, 1u);
  EXPECT_EQ(cache_->Readoption().pins_lost, 0u);
  AwaitDraining(5);
  AwaitResidentPages(5);
  mapped.clear();
  AwaitDraining(0);
  AwaitStored(3);
  Next();
  EXPECT_TRUE(cache_->Model(Named("m"))->pinned);
  EXPECT_EQ(UsedPages(), 5u);
}

TEST_F(LateReadoptionTest, WhatIsBeingLoadedComesBackWhateverBecomesOfTheLoad) {
  for (const bool fails : {true, false}) {
    Put("m", 4);
    Load("m");
    ASSERT_TRUE(cache_->Pin(Named("m"), true).ok());
    NextWithoutAnswer();
    store_.CloseGate();
    const int loads = store_.loads();
    const auto load = Preload("m");
    store_.AwaitLoads(loads + 1);
    ASSERT_TRUE(fds_.Answer());
    EXPECT_TRUE(IsResident("m"));
    if (fails) {
      store_.FailLoads(Error(Reason::kSourceUnavailable, "it went away"));
    }
    store_.OpenGate();
    EXPECT_TRUE(load->Await().ok());
    store_.FailLoads(absl::OkStatus());
    AwaitResidentPages(5);
    AwaitStored(3);
    EXPECT_TRUE(cache_->Model(Named("m"))->readopted);
    EXPECT_TRUE(cache_->Model(Named("m"))->pinned);
    EXPECT_EQ(cache_->Readoption().pins_lost, 0u);
  }
}

TEST_F(LateReadoptionTest, WhatWasLoadedAgainTakesNoRoomFromWhatWasNot) {
  Put("b", 40, 1);
  Put("c", 20, 2);
  Load("c");
  Load("b");
  NextWithoutAnswer();
  Load("b");
  ASSERT_TRUE(fds_.Answer());
  EXPECT_TRUE(IsResident("b"));
  EXPECT_TRUE(IsResident("c")) << "used less lately than the other, but not here";
}

TEST_F(LateReadoptionTest, WhatHasNoRoomByNowIsNamed) {
  Put("a", 60, 1);
  Put("b", 50, 2);
  Load("a");
  NextWithoutAnswer();
  const LeaseId lease = Lease("b");
  ASSERT_TRUE(fds_.Answer());
  EXPECT_TRUE(absl::StrContains(Complaint(), "host memory")) << Complaint();
  EXPECT_EQ(trail_->Await(EventKind::kNotReadopted).uri, Named("a"));
  AwaitStored(3);
  Release(lease);
}

TEST_F(LateReadoptionTest, AfterTheEndOfTheDaemonItIsTheNextOnes) {
  Put("m", 4);
  Load("m");
  NextWithoutAnswer();
  Stop();
  tier_.reset();
  EXPECT_FALSE(fds_.Answer());
  Next();
  EXPECT_TRUE(IsResident("m"));
}

}  // namespace
}  // namespace weightd::cache
