#include <gtest/gtest.h>

#include <memory>
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

  // The load stands at the closed gate when this returns.
  std::unique_ptr<Call> AcquireAtGate() {
    store_.CloseGate();
    auto call = Acquire("absent");
    store_.AwaitLoads(2);
    return call;
  }
  StoppedLoads StopAtOnce() { return cache_->StopLoads(absl::Now()).value(); }
  void ExpectCount(const absl::StatusOr<StoppedLoads>& loads, uint64_t ended, uint64_t stopped) {
    ASSERT_TRUE(loads.ok()) << loads.status();
    EXPECT_EQ(loads->ended, ended);
    EXPECT_EQ(loads->stopped, stopped);
  }
  HandedOver HandOver() { return cache_->HandOver(absl::Now() + absl::Seconds(10)); }
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

  EXPECT_TRUE(*cache_->ResumeLoads());
  EXPECT_FALSE(*cache_->ResumeLoads());
  EXPECT_FALSE(cache_->LoadsStopped());
  Lease("absent");
}

TEST_F(DrainTest, IsToldOnce) {
  StopAtOnce();
  StopAtOnce();
  EXPECT_EQ(trail_->Count(EventKind::kNodeDraining), 1);
  EXPECT_TRUE(*cache_->ResumeLoads());
  EXPECT_FALSE(*cache_->ResumeLoads());
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
  const auto client = AcquireAtGate();
  Drain drain(*cache_, absl::Seconds(20));
  trail_->Await(EventKind::kNodeDraining);
  const auto joined = Acquire("absent", kBob);
  store_.OpenGate();
  ASSERT_TRUE(client->Await().ok());
  ASSERT_TRUE(joined->Await().ok());
  ExpectCount(drain.Await(), 1, 0);
  EXPECT_EQ(fds_.Names().size(), 6u);
}

TEST_F(DrainTest, WhatRunsWhenTheWaitIsOverIsStopped) {
  const auto client = AcquireAtGate();
  ExpectCount(cache_->StopLoads(absl::Now() + absl::Milliseconds(20)), 0, 1);
  ExpectDraining(client->Await().status());
}

TEST_F(DrainTest, ASecondCallCutsTheFirstOnesWait) {
  const auto client = AcquireAtGate();
  Drain drain(*cache_, absl::Hours(1));
  trail_->Await(EventKind::kNodeDraining);
  EXPECT_EQ(StopAtOnce().stopped, 1u);
  ExpectCount(drain.Await(), 0, 1);
  ExpectDraining(client->Await().status());
}

TEST_F(DrainTest, ALaterDrainMayGiveMoreTime) {
  const auto client = AcquireAtGate();
  Drain first(*cache_, absl::Seconds(3));
  trail_->Await(EventKind::kNodeDraining);
  Drain second(*cache_, absl::Hours(1));
  const auto overtaken = first.Await();
  EXPECT_EQ(ReasonOf(overtaken.status()), Reason::kCancelled) << overtaken.status();
  EXPECT_FALSE(client->done());
  store_.OpenGate();
  EXPECT_TRUE(client->Await().ok());
  ExpectCount(second.Await(), 1, 0);
}

TEST_F(DrainTest, OnlyLoadsThatEndByThemselvesHaveEnded) {
  const auto client = AcquireAtGate();
  {
    Drain drain(*cache_, absl::Hours(1));
    trail_->Await(EventKind::kNodeDraining);
    ASSERT_TRUE(cache_->Evict(Named("absent"), /*force=*/true).ok());
    ExpectCount(drain.Await(), 0, 1);
  }
  EXPECT_FALSE(client->Await().ok());
  ASSERT_TRUE(*cache_->ResumeLoads());
  store_.FailLoads(Error(Reason::kMalformedModel, "no header"));
  const auto failing = Acquire("absent");
  store_.AwaitLoads(3);
  Drain drain(*cache_, absl::Hours(1));
  trail_->Await(EventKind::kNodeDraining, 2);
  store_.OpenGate();
  ExpectCount(drain.Await(), 1, 0);
  EXPECT_EQ(ReasonOf(failing->Await().status()), Reason::kMalformedModel);
}

// Loads that began after a resume are not those that it waits for.
TEST_F(DrainTest, AWaitEndsWithAResumeAlsoIfTheNodeIsDrainedAgain) {
  const auto client = AcquireAtGate();
  Drain drain(*cache_, absl::Hours(1));
  trail_->Await(EventKind::kNodeDraining);
  Put("other", 4, 3);
  ASSERT_TRUE(*cache_->ResumeLoads());
  const auto other = Acquire("other");
  EXPECT_EQ(StopAtOnce().stopped, 2u);
  EXPECT_EQ(ReasonOf(drain.Await().status()), Reason::kCancelled);
}

TEST_F(DrainTest, ADaemonThatEndsIsNotResumed) {
  const auto client = AcquireAtGate();
  Drain drain(*cache_, absl::Hours(1));
  trail_->Await(EventKind::kNodeDraining);
  EXPECT_EQ(cache_->StopLoadsForGood().stopped, 1u);
  ExpectCount(drain.Await(), 0, 1);
  for (const absl::Status& status : {client->Await().status(), Acquire("absent")->Await().status(),
                                     cache_->ResumeLoads().status()}) {
    EXPECT_EQ(ReasonOf(status), Reason::kShuttingDown) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "daemon is ending")) << status;
    EXPECT_FALSE(absl::StrContains(HintOf(status), "resume")) << HintOf(status);
  }
  EXPECT_TRUE(cache_->LoadsStopped());
  EXPECT_EQ(trail_->Count(EventKind::kNodeResumed), 0);
  ExpectCount(cache_->StopLoads(absl::InfiniteFuture()), 0, 0);
}

TEST_F(DrainTest, AWaitThatIsResumedStopsNothing) {
  const auto client = AcquireAtGate();
  Drain drain(*cache_, absl::Hours(1));
  trail_->Await(EventKind::kNodeDraining);
  EXPECT_TRUE(*cache_->ResumeLoads());
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
  EXPECT_TRUE(*cache_->ResumeLoads());
  EXPECT_EQ(store_.resolves(), resolves);
  Lease("here");
  trail_->Await(EventKind::kSuperseded);
}

TEST_F(DrainTest, TellsWhatTheNextDaemonWillFind) {
  StopAtOnce();
  const HandedOver handed = HandOver();
  EXPECT_EQ(handed.kept_models, 1u);
  EXPECT_EQ(handed.kept_bytes, cache_->Model(Named("here"))->host_bytes);
  EXPECT_EQ(handed.lost_models, 0u);
  EXPECT_TRUE(handed.confirmed);
  const Event told = trail_->Await(EventKind::kNodeDrained);
  EXPECT_EQ(told.bytes, handed.kept_bytes);
  EXPECT_EQ(told.handed->kept_models, 1u);
  Next();
  EXPECT_FALSE(cache_->LoadsStopped()) << "the next daemon is its own";
  EXPECT_TRUE(cache_->Model(Named("here"))->readopted);
}

TEST_F(DrainTest, AModelThatTheStoreLacksIsLost) {
  fds_.Refuse(".weights");
  Load("absent");
  StopAtOnce();
  const HandedOver handed = HandOver();
  EXPECT_EQ(handed.kept_models, 1u);
  EXPECT_EQ(handed.kept_bytes, cache_->Model(Named("here"))->host_bytes);
  EXPECT_EQ(handed.lost_models, 1u);
}

TEST_F(DrainTest, WhatTheStoreHasNotConfirmedIsLost) {
  fds_.ConfirmNothing();
  StopAtOnce();
  const HandedOver handed = HandOver();
  EXPECT_EQ(handed.kept_models, 0u);
  EXPECT_EQ(handed.kept_bytes, 0u);
  EXPECT_EQ(handed.lost_models, 1u);
  EXPECT_FALSE(handed.confirmed);
}

TEST_F(DrainTest, WithoutAStoreNothingIsHandedOver) {
  Stop();
  tier_.reset();
  Start(kBudget, {});
  Load("here");
  StopAtOnce();
  const HandedOver handed = HandOver();
  EXPECT_EQ(handed.kept_models, 0u);
  EXPECT_EQ(handed.lost_models, 1u);
  EXPECT_FALSE(handed.confirmed);
}

}  // namespace
}  // namespace weightd::cache
