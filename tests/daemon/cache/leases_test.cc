#include "daemon/cache/leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <set>

#include "common/mapping.h"
#include "tests/daemon/cache/cache_fixture.h"

namespace weightd::cache {
namespace {

class LeasesTest : public CacheTest {};

TEST_F(LeasesTest, AClaimHandsOutTheBytes) {
  Start(100);
  Put("m", 4, /*revision=*/42);
  auto handles = cache_->Claim(kAlice, Lease("m"));
  ASSERT_TRUE(handles.ok()) << handles.status();
  ASSERT_EQ(handles->size(), 2u);
  const ClaimedHandle& weights = handles->front();
  EXPECT_EQ(weights.kind, ClaimedHandle::Kind::kHostSegment);
  EXPECT_EQ(weights.bytes, 4 * kPageBytes);
  EXPECT_EQ(handles->back().kind, ClaimedHandle::Kind::kTensorIndex);
  EXPECT_EQ(handles->back().bytes, kPageBytes);
  const auto mapping =
      Mapping::Map(weights.fd.get(), weights.bytes, Mapping::Access::kSharedReadOnly);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ(static_cast<int>(mapping->span()[0]), 42);
  ASSERT_EQ(cache_->Leases().size(), 1u);
  EXPECT_TRUE(cache_->Leases()[0].claimed);
  EXPECT_EQ(cache_->Leases()[0].listener, "test");
  EXPECT_EQ(cache_->Leases()[0].uid, 7u);
}

TEST_F(LeasesTest, AClaimHandsOutWhatLiesBesideTheWeights) {
  Start(100);
  Put("m", 4, /*revision=*/42);
  store_.PutSmallFiles(Named("m"), {"config.json", "vocab.txt"});
  const LeaseId lease = Lease("m");
  EXPECT_EQ(UsedPages(), 6u) << "it is charged";
  auto handles = cache_->Claim(kAlice, lease);
  ASSERT_TRUE(handles.ok()) << handles.status();
  ASSERT_EQ(handles->size(), 3u);
  EXPECT_EQ(handles->back().kind, ClaimedHandle::Kind::kSmallFiles);
  EXPECT_EQ(handles->back().bytes, kPageBytes);
  const auto mapping =
      Mapping::Map(handles->back().fd.get(), kPageBytes, Mapping::Access::kSharedReadOnly);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ(static_cast<int>(mapping->span()[0]), 42);

  // Who keeps that alone keeps its memory in use, and nothing else.
  handles->pop_back();
  handles->pop_back();
  handles->pop_back();
  Release(lease);
  EXPECT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
  AwaitResidentPages(0);
  EXPECT_EQ(tier_->usage().draining, kPageBytes);
}

TEST_F(LeasesTest, ALeaseIsItsSessionsOwn) {
  Start(100);
  Put("m", 4);
  const LeaseId lease = Lease("m");
  EXPECT_EQ(ReasonOf(cache_->Claim(kBob, lease).status()), Reason::kLeaseUnknown);
  EXPECT_EQ(ReasonOf(cache_->Release(kBob, lease)), Reason::kLeaseUnknown);
  EXPECT_TRUE(cache_->Claim(kAlice, lease).ok());
  Release(lease);
  EXPECT_EQ(ReasonOf(cache_->Release(kAlice, lease)), Reason::kLeaseUnknown);
  EXPECT_EQ(ReasonOf(cache_->Claim(kAlice, lease).status()), Reason::kLeaseUnknown);
}

TEST_F(LeasesTest, NumbersAreNeverReused) {
  Start(100);
  Put("m", 4);
  std::set<LeaseId> seen;
  for (int i = 0; i < 50; ++i) {
    const LeaseId lease = Lease("m");
    EXPECT_NE(lease, LeaseId());
    EXPECT_TRUE(seen.insert(lease).second);
    Release(lease);
  }
}

TEST_F(LeasesTest, ASessionHoldsOnlySoMany) {
  Start(100);
  Put("m", 4);
  Put("n", 4);
  const LeaseId first = Lease("m");
  for (size_t i = 1; i < LeaseTable::kMostOfSession; ++i) {
    Lease("m");
  }
  for (const char* const name : {"m", "n"}) {
    const absl::Status refused = Acquire(name)->Await().status();
    EXPECT_EQ(ReasonOf(refused), Reason::kTooManyRequests) << refused;
    EXPECT_THAT(HintOf(refused), ::testing::HasSubstr("release"));
  }
  EXPECT_FALSE(IsResident("n")) << "nothing was loaded for who can't have it";
  Lease("m", kBob);
  Release(first);
  Lease("m");
}

TEST_F(LeasesTest, ManyWaitsGrantNoMoreThanASessionMayHold) {
  Start(100);
  Put("m", 4);
  Put("n", 4);
  for (size_t i = 1; i < LeaseTable::kMostOfSession; ++i) {
    Lease("m");
  }
  store_.CloseGate();
  const auto one = Acquire("n");
  const auto two = Acquire("n");
  store_.OpenGate();
  EXPECT_NE(one->Await().ok(), two->Await().ok());
}

TEST_F(LeasesTest, ASessionsEndEndsAllItHolds) {
  Start(100);
  Put("m", 4);
  Put("n", 4);
  Lease("m");
  Lease("m");
  Lease("n");
  const LeaseId other = Lease("m", kBob);
  cache_->EndSession(kAlice);
  ASSERT_EQ(cache_->Leases().size(), 1u);
  EXPECT_EQ(cache_->Leases()[0].id, other);
  EXPECT_EQ(trail_->Count(EventKind::kLeaseEnded), 3);
  EXPECT_EQ(cache_->Model(Named("n"))->leases, 0u);
  cache_->EndSession(kAlice);
}

TEST_F(LeasesTest, ASessionsEndEndsItsWaits) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto ended = Acquire("m");
  const auto stays = Acquire("m", kBob);
  store_.AwaitLoads(1);
  cache_->EndSession(kAlice);
  EXPECT_EQ(ReasonOf(ended->Await().status()), Reason::kSessionInvalid);
  store_.OpenGate();
  EXPECT_TRUE(stays->Await().ok());
  EXPECT_EQ(cache_->Leases().size(), 1u);
}

TEST_F(LeasesTest, ASessionsEndCancelsTheLoadOnlyItWaitedFor) {
  Start(100);
  Put("m", 4);
  store_.CloseGate();
  const auto ended = Acquire("m");
  store_.AwaitLoads(1);
  cache_->EndSession(kAlice);
  store_.AwaitIdle();
  EXPECT_FALSE(ended->Await().ok());
  EXPECT_FALSE(IsResident("m"));
}

TEST_F(LeasesTest, UnclaimedLeasesEnd) {
  CacheOptions options;
  options.unclaimed_lease = absl::Milliseconds(20);
  Start(100, options);
  Put("m", 4);
  const auto grant = Acquire("m", kAlice)->Await();
  ASSERT_TRUE(grant.ok());
  EXPECT_EQ(trail_->Await(EventKind::kLeaseEnded).lease, grant->lease);
  EXPECT_EQ(cache_->Leases().size(), 0u);
  EXPECT_EQ(ReasonOf(cache_->Claim(kAlice, grant->lease).status()), Reason::kLeaseUnknown);
}

TEST_F(LeasesTest, ClaimedLeasesDoNot) {
  CacheOptions options;
  options.unclaimed_lease = absl::Milliseconds(500);
  Start(100, options);
  Put("m", 4);
  const LeaseId claimed = Lease("m");
  ASSERT_TRUE(cache_->Claim(kAlice, claimed).ok());
  const LeaseId unclaimed = Lease("m", kBob);
  EXPECT_EQ(trail_->Await(EventKind::kLeaseEnded).lease, unclaimed);
  ASSERT_EQ(cache_->Leases().size(), 1u);
  EXPECT_EQ(cache_->Leases()[0].id, claimed);
}

}  // namespace
}  // namespace weightd::cache
