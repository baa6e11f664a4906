// Pins of requests, compared with resident bytes. The fake store's models are of one empty file.

#include "common/pins.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "common/status.h"
#include "daemon/cache/cache.h"
#include "tests/daemon/cache/cache_fixture.h"

namespace weightd::cache {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

const Pins kRight = {{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}};
const Pins kWrong = {{"", std::string(64, 'a')}};

class PinsTest : public CacheTest {
 protected:
  PinsTest() {
    Start(10, {.pins_of = [this](const Uri&) { return configured_; }});
    Put("m", 4);
  }

  std::unique_ptr<Call> AcquirePinned(const Pins& pins) {
    auto call = std::make_unique<Call>();
    AcquireRequest request;
    request.uri = Named("m");
    request.may_load = true;
    request.pins = pins;
    request.holder = {.session = kAlice, .listener = "test", .uid = 7};
    call->Keep(cache_->Acquire(std::move(request), call->ForAcquire()));
    return call;
  }

  absl::Status PreloadPinned(const Pins& pins) {
    Call call;
    call.Keep(cache_->Preload({.uri = Named("m"), .policy = {}, .pin = true, .pins = pins},
                              call.ForPreload()));
    return call.Await().status();
  }

  // Changed while nobody waits for anything.
  Pins configured_;
};

TEST_F(PinsTest, AResidentModelIsVerifiedBeforeItIsGranted) {
  Load("m");
  const auto grant = AcquirePinned(kRight)->Await();
  ASSERT_TRUE(grant.ok()) << grant.status();
  ASSERT_THAT(grant->proofs, SizeIs(1));
  EXPECT_EQ(grant->proofs[0].verified.by, pipeline::Authority::kPin);
  EXPECT_TRUE(PreloadPinned(kRight).ok());
  EXPECT_TRUE(cache_->Model(Named("m"))->pinned);
}

TEST_F(PinsTest, APinThatDiffersGetsNoLeaseAndHurtsNobodyElse) {
  for (const bool resident : {false, true}) {
    EXPECT_EQ(IsResident("m"), resident);
    const absl::Status status = AcquirePinned(kWrong)->Await().status();
    EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed) << status;
    EXPECT_THAT(status.message(), HasSubstr("http://store/m"));
    EXPECT_THAT(cache_->Leases(), SizeIs(0));
  }
  EXPECT_EQ(ReasonOf(PreloadPinned(kWrong)), Reason::kVerificationFailed);
  EXPECT_FALSE(cache_->Model(Named("m"))->pinned);
  const auto others = Acquire("m", kBob)->Await();
  ASSERT_TRUE(others.ok()) << others.status();
  EXPECT_THAT(others->proofs, SizeIs(0)) << "a pin that differs proves nothing";
}

// It may be there from before the config said what it has to be.
TEST_F(PinsTest, NobodyIsGrantedWhatTheConfigForbids) {
  Load("m");
  configured_ = kWrong;
  store_.CloseHashing();
  const auto waiting = Acquire("m", kBob);
  store_.AwaitHashing();
  EXPECT_FALSE(waiting->done()) << "not before it is known what it is";
  store_.OpenHashing();
  for (const absl::Status& status :
       {waiting->Await().status(), AcquirePinned(kRight)->Await().status(), PreloadPinned({})}) {
    EXPECT_EQ(ReasonOf(status), Reason::kVerificationFailed) << status;
    EXPECT_THAT(status.message(), HasSubstr("http://store/m"));
  }
  EXPECT_THAT(cache_->Leases(), SizeIs(0));
  EXPECT_FALSE(cache_->Model(Named("m"))->pinned);

  configured_ = kRight;
  EXPECT_EQ(ReasonOf(AcquirePinned(kWrong)->Await().status()), Reason::kVerificationFailed);
  const auto grant = Acquire("m", kBob)->Await();
  ASSERT_TRUE(grant.ok()) << grant.status();
  EXPECT_THAT(grant->proofs, SizeIs(1));
}

TEST_F(PinsTest, WhoeverJoinsALoadIsJudgedByTheirOwnPins) {
  store_.CloseGate();
  const auto plain = Acquire("m", kBob);
  store_.AwaitLoads(1);
  const auto right = AcquirePinned(kRight);
  const auto wrong = AcquirePinned(kWrong);
  store_.OpenGate();
  EXPECT_TRUE(plain->Await().ok());
  EXPECT_TRUE(right->Await().ok());
  EXPECT_EQ(ReasonOf(wrong->Await().status()), Reason::kVerificationFailed);
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(PinsTest, APinOfNoFileIsRefusedBeforeAnyByteMoves) {
  const Pins unknown = {{"other.safetensors", kRight.at("")}};
  EXPECT_EQ(ReasonOf(AcquirePinned(unknown)->Await().status()), Reason::kInvalidArgument);
  EXPECT_EQ(store_.loads(), 0);
  Load("m");
  EXPECT_EQ(ReasonOf(AcquirePinned(unknown)->Await().status()), Reason::kInvalidArgument);
}

TEST_F(PinsTest, EvictingEndsTheWaitOfWhoeverHasItVerified) {
  Load("m");
  store_.CloseHashing();
  const auto pinned = AcquirePinned(kRight);
  store_.AwaitHashing();
  EXPECT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
  EXPECT_EQ(ReasonOf(pinned->Await().status()), Reason::kCancelled);
  EXPECT_EQ(store_.loads(), 1) << "what an operator evicts isn't loaded again";

  // Its memory is on its way back: whoever needs it waits.
  Put("large", 9);
  const auto large = Acquire("large", kBob);
  large->AwaitPhase(pipeline::Phase::kReserving);
  EXPECT_FALSE(large->done());
  store_.OpenHashing();
  EXPECT_TRUE(large->Await().ok());
}

TEST_F(PinsTest, AWaitThatDiesAndASessionThatEndsLeaveNothing) {
  Load("m");
  for (int i = 0; i < 100; ++i) {
    const auto left = AcquirePinned(kRight);
    left->Leave();
    const auto ended = AcquirePinned(kRight);
    cache_->EndSession(kAlice);
  }
  EXPECT_THAT(cache_->Leases(), SizeIs(0));
}

}  // namespace
}  // namespace weightd::cache
