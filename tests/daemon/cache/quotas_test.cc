#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "tests/daemon/cache/cache_fixture.h"

namespace weightd::cache {
namespace {

// Models of n pages cost n + 1; the fixture's sessions come through listener "test", which may hold
// ten pages, and carol's through "other", which may hold what it likes.
class QuotasTest : public CacheTest {
 protected:
  static constexpr SessionId kCarol{3};

  void StartWithQuota(uint64_t quota_pages = 10) {
    CacheOptions options;
    options.quotas = {{"test", quota_pages * kPageBytes}};
    Start(100, options);
  }
  std::unique_ptr<Call> AcquireThrough(const std::string& listener, const std::string& name,
                                       SessionId session) {
    auto call = std::make_unique<Call>();
    AcquireRequest request;
    request.uri = Named(name);
    request.may_load = true;
    request.holder = {.session = session, .listener = listener, .uid = 8};
    call->Keep(cache_->Acquire(std::move(request), call->ForAcquire()));
    return call;
  }
  absl::Status Refusal(const std::string& name, SessionId session = kAlice) {
    return Acquire(name, session)->Await().status();
  }
  std::pair<uint64_t, uint64_t> HeldPages(const std::string& listener = "test") {
    const HeldBytes held = cache_->HeldBy(listener);
    return {held.leased / kPageBytes, held.draining / kPageBytes};
  }
  using Pages = std::pair<uint64_t, uint64_t>;
};

TEST_F(QuotasTest, WhatIsLeasedCountsOnceAndReleasingMakesRoom) {
  StartWithQuota();
  Put("a", 5);
  Put("b", 5);
  const LeaseId first = Lease("a");
  const LeaseId second = Lease("a", kBob);
  EXPECT_EQ(HeldPages(), Pages(6, 0));
  EXPECT_EQ(*cache_->HeldBy("test").quota, 10 * kPageBytes);
  const absl::Status refused = Refusal("b");
  EXPECT_EQ(ReasonOf(refused), Reason::kQuotaExceeded) << refused;
  for (const char* said : {"http://store/b needs 0.02 MiB (24576 bytes)", "listener test",
                           "0.04 MiB (40960 bytes)", "lease 0.02 MiB"}) {
    EXPECT_TRUE(absl::StrContains(refused.message(), said)) << refused;
  }
  EXPECT_TRUE(absl::StrContains(HintOf(refused), "release models")) << HintOf(refused);
  Release(first);
  EXPECT_EQ(ReasonOf(Refusal("b")), Reason::kQuotaExceeded) << "bob still leases it";
  Release(second, kBob);
  EXPECT_EQ(HeldPages(), Pages(0, 0));
  Lease("b");
  EXPECT_EQ(HeldPages(), Pages(6, 0));
}

TEST_F(QuotasTest, ASessionsEndMakesRoom) {
  StartWithQuota();
  Put("a", 5);
  Put("b", 5);
  Lease("a");
  cache_->EndSession(kAlice);
  Lease("b", kBob);
}

TEST_F(QuotasTest, OtherListenersAreNotCounted) {
  StartWithQuota();
  Put("a", 5);
  Put("b", 5);
  ASSERT_TRUE(AcquireThrough("other", "a", kCarol)->Await().ok());
  ASSERT_TRUE(AcquireThrough("other", "b", kCarol)->Await().ok());
  EXPECT_EQ(HeldPages("other"), Pages(12, 0));
  EXPECT_FALSE(cache_->HeldBy("other").quota.has_value());
  Lease("a");
  EXPECT_EQ(ReasonOf(Refusal("b")), Reason::kQuotaExceeded);
}

TEST_F(QuotasTest, ALoadThatNobodyMayHoldMovesNoByte) {
  StartWithQuota();
  Put("large", 20);
  store_.CloseGate();  // nothing comes
  const absl::Status refused = Refusal("large");
  EXPECT_EQ(ReasonOf(refused), Reason::kQuotaExceeded) << refused;
  EXPECT_TRUE(absl::StartsWith(HintOf(refused), "ask the operator")) << HintOf(refused);
  store_.AwaitIdle();
  EXPECT_EQ(UsedPages(), 0u);
}

TEST_F(QuotasTest, ALoadGoesOnForThoseWhoMayHoldIt) {
  StartWithQuota();
  Put("large", 20);
  store_.CloseGate();
  const auto allowed = AcquireThrough("other", "large", kCarol);
  store_.AwaitLoads(1);
  EXPECT_EQ(ReasonOf(Refusal("large")), Reason::kQuotaExceeded) << "at once, though it loads";
  store_.OpenGate();
  EXPECT_TRUE(allowed->Await().ok());
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(QuotasTest, LoadsAtOnceCountTogether) {
  StartWithQuota();
  Put("a", 5);
  Put("b", 5);
  store_.CloseGate();
  const auto first = Acquire("a");
  first->AwaitPhase(pipeline::Phase::kTransferring);
  EXPECT_EQ(ReasonOf(Refusal("b")), Reason::kQuotaExceeded);
  store_.OpenGate();
  EXPECT_TRUE(first->Await().ok());
}

TEST_F(QuotasTest, WhatDrainsCounts) {
  StartWithQuota();
  Put("a", 5);
  Put("b", 5);
  const LeaseId lease = Lease("a");
  {
    const auto handles = cache_->Claim(kAlice, lease);
    ASSERT_TRUE(handles.ok());
    ASSERT_TRUE(cache_->Evict(Named("a"), /*force=*/true).ok());
    AwaitResidentPages(0);
    EXPECT_EQ(HeldPages(), Pages(0, 6));
    EXPECT_EQ(HeldPages("other"), Pages(0, 0));
    EXPECT_EQ(ReasonOf(Refusal("b")), Reason::kQuotaExceeded);
  }
  trail_->Await(EventKind::kDrained);
  Lease("b");
}

TEST_F(QuotasTest, WhatIsReleasedAndStillMappedCounts) {
  StartWithQuota();
  Put("a", 5);
  Put("b", 5);
  const LeaseId lease = Lease("a");
  {
    const auto handles = cache_->Claim(kAlice, lease);
    ASSERT_TRUE(handles.ok());
    Release(lease);
    EXPECT_TRUE(IsResident("a"));
    EXPECT_EQ(HeldPages(), Pages(0, 6));
    EXPECT_EQ(ReasonOf(Refusal("b")), Reason::kQuotaExceeded);
    Release(Lease("a"));  // what is mapped already costs nothing more
  }
  EXPECT_EQ(HeldPages(), Pages(0, 0));
  Lease("b");
}

TEST_F(QuotasTest, UnclaimedAndRevokedLeasesMakeRoom) {
  StartWithQuota();
  Put("a", 5);
  Put("b", 5);
  const LeaseId lease = Lease("a");
  ASSERT_TRUE(cache_->Evict(Named("a"), /*force=*/true).ok());
  AwaitResidentPages(0);
  Lease("b");
  Release(lease);  // revoked before: good for this only
  EXPECT_EQ(HeldPages(), Pages(6, 0));
}

}  // namespace
}  // namespace weightd::cache
