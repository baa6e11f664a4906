// Keys that come with preloads: which load has which, and for how long.

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/cache/cache.h"
#include "daemon/format/secret_key.h"
#include "daemon/pipeline/model_key.h"
#include "tests/daemon/cache/cache_fixture.h"

namespace weightd::cache {
namespace {

// Mappings of one page that no core dump has: each secret has one. See proc(5), smaps. (Sanitizers
// keep larger ones out of cores, too.)
int Secrets() {
  std::ifstream smaps("/proc/self/smaps");
  int count = 0;
  bool one_page = false;
  for (std::string line; std::getline(smaps, line);) {
    if (absl::StartsWith(line, "Size:")) {
      one_page = absl::EndsWith(line, " 4 kB");
    }
    count += one_page && absl::StartsWith(line, "VmFlags:") && absl::StrContains(line, " dd");
  }
  return count;
}

class KeysTest : public CacheTest {
 protected:
  KeysTest() {
    Start(100);
    Put("m", 4);
  }

  void Encrypt() { store_.Encrypt(Named("m"), "right"); }

  std::unique_ptr<Call> PreloadWith(const std::string& key) {
    auto call = std::make_unique<Call>();
    call->Keep(cache_->Preload(
        {.uri = Named("m"), .policy = {}, .key = pipeline::ModelKey{format::SecretKey(key)}},
        call->ForPreload()));
    return call;
  }

  // A preload of an encrypted model, whose load has begun and goes on when the gate opens.
  std::unique_ptr<Call> Begun(const std::string& key) {
    Encrypt();
    store_.CloseGate();
    auto call = PreloadWith(key);
    store_.AwaitLoads(1);
    return call;
  }

  void AwaitSecrets(int count) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (Secrets() != count && absl::Now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(Secrets(), count);
  }
};

TEST_F(KeysTest, OpensTheModelOnceAndIsNeededAgain) {
  Encrypt();
  EXPECT_TRUE(PreloadWith("right")->Await().ok());
  EXPECT_EQ(store_.last_key(), "right");
  EXPECT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
  EXPECT_EQ(ReasonOf(Acquire("m")->Await().status()), Reason::kKeyMissing);
  EXPECT_EQ(store_.last_key(), "");
}

TEST_F(KeysTest, OpensWhatChangedMeanwhileToo) {
  Encrypt();
  store_.ChangeDuringLoads(Named("m"), 1);
  EXPECT_TRUE(PreloadWith("right")->Await().ok());
  EXPECT_EQ(store_.loads(), 2);
}

TEST_F(KeysTest, AResidentModelNeedsNone) {
  Load("m");
  Encrypt();
  const auto call = PreloadWith("wrong");
  EXPECT_TRUE(call->done());
  EXPECT_TRUE(call->Await().ok());
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(KeysTest, AFailureWithoutItOrWithAnotherIsNobodysAnswer) {
  Encrypt();
  store_.CloseGate();
  const auto none = Preload("m");
  store_.AwaitLoads(1);
  const auto wrong = PreloadWith("wrong");
  const auto right = PreloadWith("right");
  const auto client = Acquire("m");
  EXPECT_FALSE(right->done());
  store_.OpenGate();
  EXPECT_EQ(ReasonOf(none->Await().status()), Reason::kKeyMissing);
  EXPECT_EQ(ReasonOf(client->Await().status()), Reason::kKeyMissing);
  EXPECT_EQ(ReasonOf(wrong->Await().status()), Reason::kKeyRefused);
  EXPECT_TRUE(right->Await().ok());
  EXPECT_EQ(store_.loads(), 3);
  EXPECT_EQ(store_.most_at_once(), 1);
}

TEST_F(KeysTest, WhatAnotherKeyOpenedIsForAll) {
  const auto right = Begun("right");
  const auto wrong = PreloadWith("wrong");
  const auto client = Acquire("m");
  store_.OpenGate();
  EXPECT_TRUE(right->Await().ok());
  EXPECT_TRUE(wrong->Await().ok());
  EXPECT_TRUE(client->Await().ok());
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(KeysTest, WhoeverHasTheSameKeySharesTheFailure) {
  const auto first = Begun("wrong");
  const auto second = PreloadWith("wrong");
  store_.OpenGate();
  EXPECT_EQ(ReasonOf(first->Await().status()), Reason::kKeyRefused);
  EXPECT_EQ(ReasonOf(second->Await().status()), Reason::kKeyRefused);
  EXPECT_EQ(store_.loads(), 1);
}

TEST_F(KeysTest, AWaitingKeyOutlivesALoadThatNobodyWants) {
  Encrypt();
  store_.CloseGate();
  const auto client = Acquire("m");
  store_.AwaitLoads(1);
  const auto preload = PreloadWith("right");
  client->Leave();
  store_.AwaitLoads(2);
  store_.OpenGate();
  EXPECT_TRUE(preload->Await().ok());
}

TEST_F(KeysTest, NothingKeepsThemAfterwards) {
  const int before = Secrets();
  const auto right = Begun("right");
  EXPECT_EQ(Secrets(), before + 1);
  const auto wrong = PreloadWith("wrong");
  EXPECT_EQ(Secrets(), before + 2);
  store_.OpenGate();
  EXPECT_TRUE(right->Await().ok());
  EXPECT_TRUE(wrong->Await().ok());
  AwaitSecrets(before);
}

TEST_F(KeysTest, ALoadThatIsStoppedBeforeItsTurnKeepsNone) {
  const int before = Secrets();
  CacheOptions options;
  options.max_loads = 1;
  Stop();
  Start(100, options);
  store_.CloseGate();
  Put("other", 4);
  const auto busy = Preload("other");
  store_.AwaitLoads(1);
  const auto queued = PreloadWith("right");
  EXPECT_EQ(Secrets(), before + 1);
  EXPECT_TRUE(cache_->Evict(Named("m"), /*force=*/false).ok());
  EXPECT_EQ(ReasonOf(queued->Await().status()), Reason::kCancelled);
  AwaitSecrets(before);
  EXPECT_FALSE(busy->done());
  store_.OpenGate();
  EXPECT_TRUE(busy->Await().ok());
}

}  // namespace
}  // namespace weightd::cache
