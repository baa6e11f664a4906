#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "tests/daemon/cache/readoption_fixture.h"

namespace weightd::cache {
namespace {

// A drain that waits, on a thread of its own.
class Drain {
 public:
  Drain(Cache& cache, absl::Duration wait)
      : thread_([this, &cache, wait] { result_ = cache.StopLoads(absl::Now() + wait); }) {}
  ~Drain() {
    if (thread_.joinable()) {
      thread_.join();
    }
  }
  Drain(const Drain&) = delete;

  absl::StatusOr<StoppedLoads> Await() {
    thread_.join();
    return *result_;
  }

 private:
  std::optional<absl::StatusOr<StoppedLoads>> result_;
  std::thread thread_;
};

class DrainTest : public ReadoptionTest {
 protected:
  void SetUp() override {
    ReadoptionTest::SetUp();
    Put("here", 4, 1);
    Put("absent", 4, 2);
    Load("here");
  }

  StoppedLoads StopAtOnce() { return cache_->StopLoads(absl::Now()).value(); }
  void ExpectDraining(const absl::Status& status) {
    EXPECT_EQ(ReasonOf(status), Reason::kShuttingDown) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "draining")) << status;
    EXPECT_TRUE(absl::StrContains(HintOf(status), "weightctl resume")) << HintOf(status);
  }
};

TEST_F(DrainTest, WhatIsResidentIsServedAndNothingElseLoaded) {
  EXPECT_FALSE(cache_->LoadsStopped());
  EXPECT_EQ(StopAtOnce().stopped, 0u);
  EXPECT_TRUE(cache_->LoadsStopped());
  Lease("here");
  ASSERT_TRUE(Preload("here", /*pin=*/true)->Await().ok());
  ExpectDraining(Acquire("absent")->Await().status());
  ExpectDraining(Preload("absent")->Await().status());
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_EQ(trail_->Count(EventKind::kLoadStarted), 1);
  EXPECT_EQ(trail_->Count(EventKind::kLoadFailed), 0);

  EXPECT_TRUE(cache_->ResumeLoads());
  EXPECT_FALSE(cache_->ResumeLoads());
  EXPECT_FALSE(cache_->LoadsStopped());
  Lease("absent");
}

TEST_F(DrainTest, IsToldOnce) {
  StopAtOnce();
  StopAtOnce();
  EXPECT_EQ(trail_->Count(EventKind::kNodeDraining), 1);
  cache_->ResumeLoads();
  cache_->ResumeLoads();
  EXPECT_EQ(trail_->Count(EventKind::kNodeResumed), 1);
}

TEST_F(DrainTest, LoadsThatRunAreStoppedAndLeaveNothing) {
  store_.CloseGate();
  const auto client = Acquire("absent");
  const auto preload = Preload("absent");
  store_.AwaitLoads(2);
  const StoppedLoads loads = StopAtOnce();
  EXPECT_EQ(loads.stopped, 1u);
  EXPECT_EQ(loads.ended, 0u);
  ExpectDraining(client->Await().status());
  ExpectDraining(preload->Await().status());
  EXPECT_EQ(cache_->LoadsRunning(), 0u);
  EXPECT_EQ(fds_.Names().size(), 3u);
  EXPECT_EQ(cache_->Usage().loading, 0u);
}

TEST_F(DrainTest, LoadsThatRunMayEnd) {
  store_.CloseGate();
  const auto client = Acquire("absent");
  store_.AwaitLoads(2);
  Drain drain(*cache_, absl::Seconds(20));
  trail_->Await(EventKind::kNodeDraining);
  const auto joined = Acquire("absent", kBob);
  store_.OpenGate();
  ASSERT_TRUE(client->Await().ok());
  ASSERT_TRUE(joined->Await().ok());
  const auto loads = drain.Await();
  ASSERT_TRUE(loads.ok()) << loads.status();
  EXPECT_EQ(loads->ended, 1u);
  EXPECT_EQ(loads->stopped, 0u);
  EXPECT_EQ(fds_.Names().size(), 6u);
}

TEST_F(DrainTest, WhatRunsWhenTheWaitIsOverIsStopped) {
  store_.CloseGate();
  const auto client = Acquire("absent");
  store_.AwaitLoads(2);
  const auto loads = cache_->StopLoads(absl::Now() + absl::Milliseconds(20));
  EXPECT_EQ(loads->stopped, 1u);
  ExpectDraining(client->Await().status());
}

TEST_F(DrainTest, ASecondCallCutsTheFirstOnesWait) {
  store_.CloseGate();
  const auto client = Acquire("absent");
  store_.AwaitLoads(2);
  Drain drain(*cache_, absl::Hours(1));
  trail_->Await(EventKind::kNodeDraining);
  EXPECT_EQ(StopAtOnce().stopped, 1u);
  EXPECT_TRUE(drain.Await().ok());
  ExpectDraining(client->Await().status());
}

TEST_F(DrainTest, AWaitThatIsResumedStopsNothing) {
  store_.CloseGate();
  const auto client = Acquire("absent");
  store_.AwaitLoads(2);
  Drain drain(*cache_, absl::Hours(1));
  trail_->Await(EventKind::kNodeDraining);
  EXPECT_TRUE(cache_->ResumeLoads());
  EXPECT_EQ(ReasonOf(drain.Await().status()), Reason::kCancelled);
  store_.OpenGate();
  EXPECT_TRUE(client->Await().ok());
}

// Whoever waits for another's load only to follow with its own hears that there will be none.
TEST_F(DrainTest, NobodyWaitsForALoadThatWontBegin) {
  store_.CloseGate();
  auto first = Acquire("absent");
  store_.AwaitLoads(2);
  source::ReadPolicy other;
  other.any_path = true;
  const auto second = Acquire("absent", kBob, true, {}, other);
  Drain drain(*cache_, absl::Hours(1));
  trail_->Await(EventKind::kNodeDraining);
  first->Leave();
  ExpectDraining(second->Await().status());
  EXPECT_TRUE(drain.Await().ok());
}

TEST_F(DrainTest, SourcesAreNotAskedForNews) {
  Next(kBudget, {.revalidate = absl::ZeroDuration()});
  StopAtOnce();
  const int resolves = store_.resolves();
  Put("here", 4, /*revision=*/3);
  Lease("here");
  cache_->ResumeLoads();
  EXPECT_EQ(store_.resolves(), resolves);
  Lease("here");
  trail_->Await(EventKind::kSuperseded);
}

TEST_F(DrainTest, TellsWhatTheNextDaemonWillFind) {
  StopAtOnce();
  const HandedOver handed = cache_->HandOver(absl::Now() + absl::Seconds(10));
  EXPECT_EQ(handed.kept_models, 1u);
  EXPECT_EQ(handed.kept_bytes, cache_->Model(Named("here"))->host_bytes);
  EXPECT_EQ(handed.lost_models, 0u);
  EXPECT_TRUE(handed.confirmed);
  EXPECT_EQ(trail_->Await(EventKind::kNodeDrained).bytes, handed.kept_bytes);
  Next();
  EXPECT_FALSE(cache_->LoadsStopped()) << "the next daemon is its own";
  EXPECT_TRUE(cache_->Model(Named("here"))->readopted);
}

TEST_F(DrainTest, WithoutAStoreNothingIsHandedOver) {
  Stop();
  tier_.reset();
  Start(kBudget, {});
  Load("here");
  StopAtOnce();
  const HandedOver handed = cache_->HandOver(absl::Now() + absl::Seconds(10));
  EXPECT_EQ(handed.kept_models, 0u);
  EXPECT_EQ(handed.lost_models, 1u);
  EXPECT_FALSE(handed.confirmed);
}

}  // namespace
}  // namespace weightd::cache
