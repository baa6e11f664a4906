#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/daemon/cache/cache_fixture.h"

namespace weightd::cache {
namespace {

class SingleFlightTest : public CacheTest {
 protected:
  // From many threads at once, each its own session.
  std::vector<std::unique_ptr<Call>> AcquireByMany(const std::string& name, int count) {
    std::vector<std::unique_ptr<Call>> calls(static_cast<size_t>(count));
    constexpr int kThreads = 8;
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = t; i < count; i += kThreads) {
          calls[static_cast<size_t>(i)] = Acquire(name, SessionId(100 + static_cast<uint64_t>(i)));
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    return calls;
  }
};

TEST_F(SingleFlightTest, TwoHundredWaitersShareOneLoad) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto calls = AcquireByMany("m", 200);
  store_.AwaitLoads(1);
  store_.OpenGate();
  for (const auto& call : calls) {
    const auto grant = call->Await();
    ASSERT_TRUE(grant.ok()) << grant.status();
    EXPECT_EQ(grant->model.revision, fakes::MakeRevision(1));
  }
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_EQ(store_.resolves(), 1);
  EXPECT_EQ(cache_->Leases().size(), 200u);
  EXPECT_EQ(cache_->Model(Named("m"))->leases, 200u);
}

TEST_F(SingleFlightTest, ALoadsEventsSayWhichClientSetItOff) {
  Start(100);
  Put("m", 4);
  Put("n", 4);
  ASSERT_TRUE(Acquire("m")->Await().ok());
  ASSERT_TRUE(Preload("n")->Await().ok());
  for (const EventKind kind : {EventKind::kLoadStarted, EventKind::kLoadFinished}) {
    const Event operators = trail_->Await(kind, 2);
    EXPECT_EQ(operators.uri, Named("n"));
    EXPECT_FALSE(operators.client.has_value());
  }
  store_.FailLoads(Error(Reason::kSourceUnavailable, "the store fell over"));
  Put("o", 4);
  ASSERT_FALSE(Acquire("o")->Await().ok());
  const Event clients = trail_->Await(EventKind::kLoadFailed);
  ASSERT_TRUE(clients.client.has_value());
  EXPECT_EQ(clients.client->listener, "test");
  EXPECT_EQ(clients.client->uid, 7u);
}

TEST_F(SingleFlightTest, TwoHundredWaitersShareOneError) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  store_.FailLoads(Error(Reason::kSourceUnavailable, "the store fell over", "call somebody"));
  const auto calls = AcquireByMany("m", 200);
  store_.AwaitLoads(1);
  store_.OpenGate();
  for (const auto& call : calls) {
    const auto grant = call->Await();
    EXPECT_EQ(ReasonOf(grant.status()), Reason::kSourceUnavailable);
    EXPECT_EQ(HintOf(grant.status()), "call somebody");
  }
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_EQ(UsedPages(), 0u);
  const auto model = cache_->Model(Named("m"));
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->state, ModelState::kAbsent);
  EXPECT_EQ(model->last_error, "the store fell over");
}

TEST_F(SingleFlightTest, AFailureIsNotRememberedAgainstTheNext) {
  Start(100);
  Put("m", 4);
  store_.FailLoads(Error(Reason::kSourceUnavailable, "down"));
  EXPECT_FALSE(Acquire("m")->Await().ok());
  store_.FailLoads(absl::OkStatus());
  EXPECT_TRUE(Acquire("m")->Await().ok());
  EXPECT_EQ(cache_->Model(Named("m"))->last_error, "");
}

TEST_F(SingleFlightTest, AResidentModelIsGrantedBeforeAcquireReturns) {
  Start(100);
  Put("m", 4);
  Load("m");
  const int resolves = store_.resolves();
  const auto call = Acquire("m", kAlice, /*may_load=*/false);
  EXPECT_TRUE(call->done());
  EXPECT_TRUE(call->Await().ok());
  EXPECT_EQ(store_.resolves(), resolves);
}

TEST_F(SingleFlightTest, WhoMayNotLoadJoinsNothing) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto loading = Acquire("m");
  store_.AwaitLoads(1);
  const auto call = Acquire("m", kBob, /*may_load=*/false);
  EXPECT_TRUE(call->done());
  EXPECT_EQ(ReasonOf(call->Await().status()), Reason::kModelNotResident);
  store_.OpenGate();
  EXPECT_TRUE(loading->Await().ok());
}

TEST_F(SingleFlightTest, TheLastWaiterToLeaveCancelsTheLoad) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto first = Acquire("m");
  const auto second = Acquire("m", kBob);
  store_.AwaitLoads(1);
  first->Leave();
  EXPECT_EQ(cache_->Model(Named("m"))->state, ModelState::kLoading);
  second->Leave();
  store_.AwaitIdle();
  EXPECT_FALSE(first->done());
  EXPECT_FALSE(second->done());
  EXPECT_FALSE(cache_->Model(Named("m")).ok());
  EXPECT_EQ(UsedPages(), 0u);
}

TEST_F(SingleFlightTest, ANewWaiterAfterACancelGetsALoadOfItsOwn) {
  // The first load's room is all there is: the second one waits until it is given back.
  Start(5);
  Put("m", 4);
  store_.CloseGate();
  store_.IgnoreCancellation();
  const auto first = Acquire("m");
  store_.AwaitLoads(1);
  first->Leave();
  const auto second = Acquire("m", kBob);
  second->AwaitPhase(pipeline::Phase::kReserving);
  store_.OpenGate();
  EXPECT_TRUE(second->Await().ok());
}

TEST_F(SingleFlightTest, WhoLeavesWhileItIsGrantedKeepsNoLease) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  // Both are granted at once and told one after the other: the first makes the second leave.
  std::unique_ptr<Call> second;
  std::unique_ptr<Wait> first;
  AcquireRequest request;
  request.uri = Named("m");
  request.may_load = true;
  request.holder.session = kAlice;
  AcquireCallbacks callbacks;
  callbacks.done = [&second](const absl::StatusOr<Grant>& grant) {
    EXPECT_TRUE(grant.ok());
    second->Leave();
  };
  first = cache_->Acquire(request, callbacks);
  second = Acquire("m", kBob);
  store_.AwaitLoads(1);
  store_.OpenGate();
  trail_->Await(EventKind::kLeaseEnded);
  EXPECT_FALSE(second->done());
  ASSERT_EQ(cache_->Leases().size(), 1u);
  first.reset();
}

TEST_F(SingleFlightTest, APreloadSurvivesItsCaller) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto preload = Preload("m");
  const auto client = Acquire("m");
  store_.AwaitLoads(1);
  preload->Leave();
  client->Leave();
  store_.OpenGate();
  trail_->Await(EventKind::kLoadFinished);
  EXPECT_TRUE(IsResident("m"));
  EXPECT_FALSE(preload->done());
}

TEST_F(SingleFlightTest, EventsSayHowLongItTookAndForWhom) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto client = Acquire("m");
  store_.AwaitLoads(1);
  absl::SleepFor(absl::Milliseconds(20));  // what is measured
  store_.OpenGate();
  const Event loaded = trail_->Await(EventKind::kLoadFinished);
  ASSERT_TRUE(loaded.took.has_value());
  EXPECT_GE(*loaded.took, absl::Milliseconds(20));
  absl::Duration phases;
  for (const auto& [phase, time] : loaded.phases) {
    phases += time;
  }
  EXPECT_EQ(phases, *loaded.took);

  const Event waited = trail_->Await(EventKind::kLeaseGranted);
  EXPECT_GE(waited.took.value_or(absl::ZeroDuration()), absl::Milliseconds(20));
  EXPECT_FALSE(waited.was_resident);
  EXPECT_EQ(waited.listener, "test");
  const LeaseId lease = Lease("m", kBob);
  const Event at_once = trail_->Await(EventKind::kLeaseGranted, 2);
  EXPECT_TRUE(at_once.was_resident);
  EXPECT_LT(at_once.took.value_or(absl::InfiniteDuration()), *waited.took);
  Release(lease, kBob);
  EXPECT_EQ(trail_->Await(EventKind::kLeaseEnded).listener, "test");
}

TEST_F(SingleFlightTest, ProgressIsTold) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto call = Acquire("m");
  call->AwaitPhase(pipeline::Phase::kTransferring);
  const auto model = cache_->Model(Named("m"));
  EXPECT_EQ(model->state, ModelState::kLoading);
  EXPECT_EQ(model->progress.bytes_total, 4 * kPageBytes);
  EXPECT_EQ(model->revision, fakes::MakeRevision(1));
  store_.OpenGate();
  EXPECT_TRUE(call->Await().ok());
}

TEST_F(SingleFlightTest, LoadsBeyondTheLimitQueue) {
  CacheOptions options;
  options.max_loads = 2;
  Start(100, options);
  store_.CloseGate();
  std::vector<std::unique_ptr<Call>> calls;
  for (const char* name : {"a", "b", "c", "d"}) {
    Put(name, 4);
    calls.push_back(Acquire(name));
  }
  store_.AwaitLoads(2);
  EXPECT_EQ(cache_->LoadsRunning(), 2u);
  store_.OpenGate();
  for (const auto& call : calls) {
    EXPECT_TRUE(call->Await().ok());
  }
  EXPECT_EQ(store_.most_at_once(), 2);
  EXPECT_EQ(cache_->LoadsRunning(), 0u);
}

TEST_F(SingleFlightTest, OperatorsDoNotQueueBehindClients) {
  CacheOptions options;
  options.max_loads = 1;
  Start(100, options);
  store_.CloseGate();
  for (const char* name : {"a", "b", "c"}) {
    Put(name, 4);
  }
  const auto slow = Acquire("a");
  store_.AwaitLoads(1);
  const auto queued = Acquire("b");
  const auto wanted_too = Preload("b");
  store_.AwaitLoads(2);
  const auto preloaded = Preload("c");
  store_.OpenGate();
  for (const auto* call : {&slow, &queued, &wanted_too, &preloaded}) {
    EXPECT_TRUE((*call)->Await().ok());
  }
  EXPECT_EQ(store_.loads(), 3);
}

TEST_F(SingleFlightTest, ALoadKnowsWhetherAClientWaits) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto preload = Preload("m");
  store_.AwaitLoads(1);
  EXPECT_FALSE(store_.awaited());
  const auto client = Acquire("m");
  EXPECT_TRUE(store_.awaited());
  client->Leave();
  EXPECT_FALSE(store_.awaited());
  store_.OpenGate();
  EXPECT_TRUE(preload->Await().ok());
}

TEST_F(SingleFlightTest, AnObjectThatChangesIsLoadedOnceMore) {
  Start(100);
  Put("m", 4, /*revision=*/1);
  store_.ChangeDuringLoads(Named("m"), 1);
  const auto grant = Acquire("m")->Await();
  ASSERT_TRUE(grant.ok()) << grant.status();
  EXPECT_EQ(grant->model.revision, fakes::MakeRevision(2));
  EXPECT_EQ(store_.loads(), 2);
  EXPECT_EQ(UsedPages(), 5u);
}

TEST_F(SingleFlightTest, AnObjectThatKeepsChangingFails) {
  Start(100);
  Put("m", 4);
  store_.ChangeDuringLoads(Named("m"), 10);
  const auto grant = Acquire("m")->Await();
  EXPECT_EQ(ReasonOf(grant.status()), Reason::kSourceChanged);
  EXPECT_NE(grant.status().message().find("keeps changing"), absl::string_view::npos);
  EXPECT_EQ(store_.loads(), 2);
}

const source::ReadPolicy kWide = {.any_path = true, .any_address = true, .unpinned = true};

TEST_F(SingleFlightTest, ANarrowerPolicyAttachesToWhatAWiderOneLoaded) {
  Start(100);
  Put("m", 4);
  store_.RefuseNarrowPolicies();
  store_.CloseGate();
  const auto operators = Preload("m", /*pin=*/false, kWide);
  const auto clients = Acquire("m");
  store_.AwaitLoads(1);
  store_.OpenGate();
  EXPECT_TRUE(operators->Await().ok());
  EXPECT_TRUE(clients->Await().ok());
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(SingleFlightTest, ANarrowerPolicyDoesNotKeepAWiderLoadAlive) {
  Start(100);
  Put("m", 4);
  store_.RefuseNarrowPolicies();
  store_.CloseGate();
  const auto wide = Acquire("m", kBob, true, "", kWide);
  const auto narrow = Acquire("m");
  store_.AwaitLoads(1);
  wide->Leave();
  EXPECT_EQ(ReasonOf(narrow->Await().status()), Reason::kNotAllowed);
  EXPECT_FALSE(IsResident("m"));
}

TEST_F(SingleFlightTest, AFailureOfAnotherPolicyIsNobodysAnswer) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  store_.RefuseNarrowPolicies();
  const auto wide = Acquire("m", kBob, true, "", kWide);
  store_.AwaitLoads(1);
  const auto narrow = Acquire("m");
  const auto also_wide = Acquire("m", kAlice, true, "", kWide);
  EXPECT_FALSE(narrow->done());
  store_.FailLoads(Error(Reason::kSourceUnavailable, "down"));
  store_.OpenGate();
  EXPECT_EQ(ReasonOf(wide->Await().status()), Reason::kSourceUnavailable);
  EXPECT_EQ(ReasonOf(also_wide->Await().status()), Reason::kSourceUnavailable);
  EXPECT_EQ(ReasonOf(narrow->Await().status()), Reason::kNotAllowed);
}

TEST_F(SingleFlightTest, OnlyTheRevisionAskedForIsGranted) {
  Start(100);
  Put("m", 4, /*revision=*/3);
  const auto other = Acquire("m", kAlice, true, "00000004");
  EXPECT_EQ(ReasonOf(other->Await().status()), Reason::kModelNotFound);
  EXPECT_EQ(store_.loads(), 0);
  EXPECT_TRUE(Acquire("m", kAlice, true, "00000003")->Await().ok());
  EXPECT_TRUE(Acquire("m", kAlice, false, fakes::MakeRevision(3).hex())->Await().ok());
  EXPECT_EQ(ReasonOf(Acquire("m", kAlice, true, "0000000")->Await().status()),
            Reason::kInvalidArgument);
  EXPECT_EQ(ReasonOf(Acquire("m", kAlice, true, "0000000X")->Await().status()),
            Reason::kInvalidArgument);
}

TEST_F(SingleFlightTest, ShutdownEndsEveryWait) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto first = Acquire("m");
  const auto second = Preload("m");
  store_.AwaitLoads(1);
  Stop();
  EXPECT_EQ(ReasonOf(first->Await().status()), Reason::kShuttingDown);
  EXPECT_EQ(ReasonOf(second->Await().status()), Reason::kShuttingDown);
}

TEST_F(SingleFlightTest, AWaitMayDieInItsOwnCallback) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  absl::Mutex mutex;
  bool done = false;
  std::unique_ptr<Wait> wait;
  AcquireRequest request;
  request.uri = Named("m");
  request.may_load = true;
  request.holder.session = kAlice;
  AcquireCallbacks callbacks;
  callbacks.progress = [](const ProgressSnapshot&) {};
  callbacks.done = [&](const absl::StatusOr<Grant>& grant) {
    EXPECT_TRUE(grant.ok());
    absl::MutexLock lock(&mutex);
    wait.reset();
    done = true;
  };
  {
    absl::MutexLock lock(&mutex);
    wait = cache_->Acquire(request, callbacks);
  }
  store_.OpenGate();
  absl::MutexLock lock(&mutex);
  mutex.Await(absl::Condition(&done));
}

}  // namespace
}  // namespace weightd::cache
