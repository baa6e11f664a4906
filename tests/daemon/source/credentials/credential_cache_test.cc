// When credentials are fetched again, and what holds while that fails.

#include "daemon/source/credentials/credential_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "tests/daemon/source/credentials/fake_environment.h"

namespace weightd::source {
namespace {

using Fetched = absl::StatusOr<std::optional<FetchedCredentials>>;

absl::Status Down() { return Error(Reason::kSourceUnavailable, "the service is down", "start it"); }

// A service whose answers a test gives, and a clock that a test moves. Thread-safe.
class Service {
 public:
  absl::Time now() const {
    absl::MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration duration) {
    absl::MutexLock lock(&mutex_);
    now_ += duration;
  }

  // Credentials that end so long after they are asked for.
  void Give(const std::string& key, absl::Duration life, std::vector<FileStamp> files = {}) {
    absl::MutexLock lock(&mutex_);
    key_ = key;
    life_ = life;
    files_ = std::move(files);
    failure_ = absl::OkStatus();
  }
  void GiveNone() { Give("", absl::InfiniteDuration()); }
  void Fail() {
    absl::MutexLock lock(&mutex_);
    failure_ = Down();
  }
  // Fetches wait from now on until Open.
  void Close() {
    absl::MutexLock lock(&mutex_);
    open_ = false;
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    open_ = true;
  }
  int begun() const {
    absl::MutexLock lock(&mutex_);
    return begun_;
  }
  void AwaitBegun(int count) const {
    const auto enough = [this, count] {
      mutex_.AssertReaderHeld();
      return begun_ >= count;
    };
    absl::MutexLock lock(&mutex_, absl::Condition(&enough));
  }
  int most_at_once() const {
    absl::MutexLock lock(&mutex_);
    return most_at_once_;
  }

  Fetched Fetch(Cancellation& cancellation) {
    const Cancellation::Registration registration = cancellation.OnCancel([this] { Open(); });
    absl::MutexLock lock(&mutex_);
    ++begun_;
    most_at_once_ = std::max(most_at_once_, ++at_once_);
    mutex_.Await(absl::Condition(&open_));
    --at_once_;
    if (!failure_.ok()) {
      return failure_;
    }
    if (key_.empty()) {
      return std::nullopt;
    }
    FetchedCredentials fetched;
    fetched.credentials.kind = "the test's service";
    fetched.credentials.access_key_id = key_;
    fetched.credentials.secret_access_key = "hush";
    fetched.credentials.expires = now_ + life_;
    fetched.files = files_;
    return fetched;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'800'000'000);
  std::string key_ ABSL_GUARDED_BY(mutex_);
  absl::Duration life_ ABSL_GUARDED_BY(mutex_);
  std::vector<FileStamp> files_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool open_ ABSL_GUARDED_BY(mutex_) = true;
  int begun_ ABSL_GUARDED_BY(mutex_) = 0;
  int at_once_ ABSL_GUARDED_BY(mutex_) = 0;
  int most_at_once_ ABSL_GUARDED_BY(mutex_) = 0;
};

class ServiceSource final : public CredentialSource {
 public:
  explicit ServiceSource(Service* service) : service_(service) {}
  Fetched Fetch(Cancellation& cancellation) override { return service_->Fetch(cancellation); }

 private:
  Service* const service_;
};

class CredentialCacheTest : public testing::Test {
 protected:
  // The key that Get gives, "none", or the error's message.
  std::string Get() {
    Cancellation cancellation;
    return Get(cancellation);
  }
  std::string Get(Cancellation& cancellation) {
    const absl::StatusOr<std::optional<Credentials>> got = provider_->Get(cancellation);
    if (!got.ok()) {
      return std::string(got.status().message());
    }
    return got->has_value() ? (*got)->access_key_id : "none";
  }
  // Gets until the fetch that runs has ended.
  std::string GetUntil(const std::string& key) {
    std::string got = Get();
    const absl::Time end = absl::Now() + absl::Seconds(30);
    while (got != key && absl::Now() < end) {
      std::this_thread::yield();
      got = Get();
    }
    return got;
  }

  Service service_;
  std::unique_ptr<CredentialProvider> provider_ = MakeCachingProvider(
      std::make_unique<ServiceSource>(&service_), [this] { return service_.now(); });
};

TEST_F(CredentialCacheTest, TheyAreFetchedOnceAndKept) {
  service_.Give("first", absl::Hours(1));
  EXPECT_EQ(Get(), "first");
  service_.Give("second", absl::Hours(1));
  service_.Advance(absl::Minutes(54));
  EXPECT_EQ(Get(), "first");
  EXPECT_EQ(service_.begun(), 1);
}

TEST_F(CredentialCacheTest, TheyAreRenewedBeforeTheyEndAndNobodyWaits) {
  service_.Give("first", absl::Hours(1));
  ASSERT_EQ(Get(), "first");
  service_.Give("second", absl::Hours(1));
  service_.Close();
  service_.Advance(absl::Minutes(56));
  EXPECT_EQ(Get(), "first");
  service_.AwaitBegun(2);
  EXPECT_EQ(Get(), "first");
  service_.Open();
  EXPECT_EQ(GetUntil("second"), "second");
  EXPECT_EQ(service_.begun(), 2);
}

TEST_F(CredentialCacheTest, NothingIsSignedWithTheLastSeconds) {
  service_.Give("first", absl::Hours(1));
  ASSERT_EQ(Get(), "first");
  service_.Give("second", absl::Hours(1));
  service_.Advance(absl::Minutes(60) - absl::Seconds(20));
  EXPECT_EQ(Get(), "second");
}

TEST_F(CredentialCacheTest, TheOldOnesServeWhileTheyHoldAndRenewalFails) {
  service_.Give("first", absl::Hours(1));
  ASSERT_EQ(Get(), "first");
  service_.Fail();
  service_.Advance(absl::Minutes(60) - absl::Seconds(29));
  EXPECT_EQ(Get(), "first");
  EXPECT_EQ(Get(), "first");
  EXPECT_EQ(service_.begun(), 2) << "a pause after a failure";
  service_.Advance(absl::Seconds(28));
  EXPECT_EQ(Get(), "first");
  EXPECT_EQ(service_.begun(), 2);
  service_.Advance(absl::Seconds(1));
  EXPECT_EQ(Get(), "the service is down");
  EXPECT_EQ(service_.begun(), 3);
  service_.Give("second", absl::Hours(1));
  service_.Advance(absl::Seconds(1));
  EXPECT_EQ(Get(), "second");
}

TEST_F(CredentialCacheTest, AFailureIsNotAskedForAgainAtOnce) {
  service_.Fail();
  EXPECT_EQ(Get(), "the service is down");
  EXPECT_EQ(Get(), "the service is down");
  EXPECT_EQ(service_.begun(), 1);
  service_.Give("first", absl::Hours(1));
  service_.Advance(absl::Seconds(1));
  EXPECT_EQ(Get(), "first");
}

TEST_F(CredentialCacheTest, ExpiredOnesAreAnError) {
  service_.Give("first", absl::ZeroDuration());
  EXPECT_EQ(Get(), "the test's service: gives credentials that have expired");
}

TEST_F(CredentialCacheTest, ShortLivesAreRenewedHalfway) {
  service_.Give("first", absl::Minutes(1));
  ASSERT_EQ(Get(), "first");
  EXPECT_EQ(Get(), "first");
  EXPECT_EQ(service_.begun(), 1);
  service_.Give("second", absl::Minutes(1));
  service_.Advance(absl::Seconds(31));
  EXPECT_EQ(GetUntil("second"), "second");
}

TEST_F(CredentialCacheTest, WhatTheStoreCallsExpiredIsReplaced) {
  service_.Give("first", absl::Hours(1));
  ASSERT_EQ(Get(), "first");
  service_.Give("second", absl::Hours(1));
  Credentials used;
  used.access_key_id = "first";
  used.secret_access_key = "hush";
  provider_->Invalidate(used);
  EXPECT_EQ(Get(), "second");
  provider_->Invalidate(used);
  EXPECT_EQ(Get(), "second");
  EXPECT_EQ(service_.begun(), 2) << "those of another request are no reason to fetch";
  used.access_key_id = "second";
  service_.Fail();
  provider_->Invalidate(used);
  EXPECT_EQ(Get(), "the service is down") << "not what the store refuses";
}

TEST_F(CredentialCacheTest, NoneIsLookedAtAgain) {
  service_.GiveNone();
  EXPECT_EQ(Get(), "none");
  service_.Give("first", absl::Hours(1));
  EXPECT_EQ(Get(), "none");
  service_.Advance(absl::Minutes(1));
  EXPECT_EQ(GetUntil("first"), "first");
  EXPECT_EQ(service_.begun(), 2);
}

TEST_F(CredentialCacheTest, AChangedFileIsReadAtOnce) {
  FakeEnvironment home;
  const std::string path = home.Write("secret", "one");
  service_.Give("first", absl::InfiniteDuration(), {ReadTextFile(path)->stamp});
  ASSERT_EQ(Get(), "first");
  EXPECT_EQ(Get(), "first");
  EXPECT_EQ(service_.begun(), 1);
  home.Write("secret", "two");
  service_.Give("second", absl::InfiniteDuration(), {ReadTextFile(path)->stamp});
  EXPECT_EQ(Get(), "second");
  EXPECT_EQ(Get(), "second");
  EXPECT_EQ(service_.begun(), 2);
  home.Write("secret", "three");
  service_.Fail();
  EXPECT_EQ(Get(), "second") << "half a change is no reason to stop";
}

TEST_F(CredentialCacheTest, ManyAskAndOneFetchRuns) {
  service_.Give("first", absl::Hours(1));
  service_.Close();
  std::vector<std::string> got(16);
  std::vector<std::thread> threads;
  threads.reserve(got.size());
  for (std::string& one : got) {
    threads.emplace_back([this, &one] { one = Get(); });
  }
  service_.AwaitBegun(1);
  service_.Open();
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_THAT(got, testing::Each("first"));
  EXPECT_EQ(service_.begun(), 1);
  EXPECT_EQ(service_.most_at_once(), 1);
}

TEST_F(CredentialCacheTest, WhoeverIsCancelledGoesAndTheOthersStay) {
  service_.Give("first", absl::Hours(1));
  service_.Close();
  Cancellation cancellation;
  std::string cancelled;
  std::string other;
  std::thread one([&] { cancelled = Get(cancellation); });
  service_.AwaitBegun(1);
  std::thread two([&] { other = Get(); });
  cancellation.Cancel(Error(Reason::kCancelled, "nobody waits"));
  one.join();
  EXPECT_EQ(cancelled, "nobody waits");
  service_.Open();
  two.join();
  EXPECT_EQ(other, "first");
  EXPECT_EQ(Get(cancellation), "nobody waits");
}

TEST_F(CredentialCacheTest, ItsEndEndsAFetch) {
  service_.Give("first", absl::Hours(1));
  ASSERT_EQ(Get(), "first");
  service_.Close();
  service_.Advance(absl::Minutes(56));
  EXPECT_EQ(Get(), "first");
  service_.AwaitBegun(2);
  provider_.reset();
}

}  // namespace
}  // namespace weightd::source
