#include "daemon/source/http/token_bucket.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

namespace weightd::source {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kRate = 1'000'000;
constexpr uint64_t kPlenty = uint64_t{1} << 40;

class TokenBucketTest : public testing::Test {
 protected:
  // Lets `time` pass in steps, in which each account of `thirsty` takes all that it gets.
  std::map<int, uint64_t> Run(const std::vector<int>& thirsty, milliseconds time) {
    std::map<int, uint64_t> taken;
    for (milliseconds passed{0}; passed < time; passed += kStep) {
      now_ += kStep;
      for (const int account : thirsty) {
        taken[account] += bucket_.Take(account, kPlenty, now_);
      }
    }
    return taken;
  }

  static constexpr milliseconds kStep{5};
  TokenBucket::Time now_;
  TokenBucket bucket_{kRate, now_};
};

TEST_F(TokenBucketTest, BeginsEmptyAndFillsAtItsRate) {
  const int account = bucket_.Open(true, now_);
  EXPECT_EQ(bucket_.Take(account, kPlenty, now_), 0);
  now_ += milliseconds(10);
  EXPECT_EQ(bucket_.Take(account, 4'000, now_), 4'000);
  EXPECT_EQ(bucket_.Take(account, kPlenty, now_), 6'000);
  EXPECT_NEAR(static_cast<double>(Run({account}, milliseconds(10'000))[account]), 10.0 * kRate, 10);
}

TEST_F(TokenBucketTest, KeepsNoMoreThanABurst) {
  const int account = bucket_.Open(true, now_);
  now_ += std::chrono::hours(1);
  EXPECT_EQ(bucket_.Take(account, kPlenty, now_), kRate / 10);
  EXPECT_EQ(bucket_.Take(account, kPlenty, now_), 0);
}

TEST_F(TokenBucketTest, WhatIsReturnedCanBeTakenAgain) {
  const int account = bucket_.Open(true, now_);
  now_ += milliseconds(10);
  EXPECT_EQ(bucket_.Take(account, kPlenty, now_), 10'000);
  bucket_.Return(account, 3'000);
  EXPECT_EQ(bucket_.Take(account, kPlenty, now_), 3'000);
}

TEST_F(TokenBucketTest, WhatWasReceivedTooMuchIsPaidAlsoAfterItsAccountIsClosed) {
  const int debtor = bucket_.Open(true, now_);
  bucket_.Return(debtor, -30'000);
  now_ += milliseconds(10);
  EXPECT_EQ(bucket_.Take(debtor, kPlenty, now_), 0);
  bucket_.Close(debtor, now_);
  const int next = bucket_.Open(true, now_);
  now_ += milliseconds(19);
  EXPECT_EQ(bucket_.Take(next, kPlenty, now_), 0);
  now_ += milliseconds(11);
  EXPECT_NEAR(static_cast<double>(bucket_.Take(next, kPlenty, now_)), 10'000, 1);
}

TEST_F(TokenBucketTest, ReadsOfAKindShareEvenly) {
  for (const bool awaited : {true, false}) {
    std::vector<int> accounts;
    for (int i = 0; i < 5; ++i) {
      accounts.push_back(bucket_.Open(awaited, now_));
    }
    for (const auto& [account, bytes] : Run(accounts, milliseconds(5'000))) {
      EXPECT_NEAR(static_cast<double>(bytes), kRate, 0.01 * kRate);
      bucket_.Close(account, now_);
    }
  }
}

TEST_F(TokenBucketTest, ReadsThatNobodyWaitsForHaveAFifthHoweverManyTheyAre) {
  const int awaited = bucket_.Open(true, now_);
  const std::vector<int> preloads = {bucket_.Open(false, now_), bucket_.Open(false, now_),
                                     bucket_.Open(false, now_)};
  std::map<int, uint64_t> taken =
      Run({awaited, preloads[0], preloads[1], preloads[2]}, milliseconds(3'000));
  EXPECT_NEAR(static_cast<double>(taken[awaited]), 0.8 * 3 * kRate, 0.01 * kRate);
  for (const int preload : preloads) {
    EXPECT_NEAR(static_cast<double>(taken[preload]), 0.2 * kRate, 0.01 * kRate);
  }
}

TEST_F(TokenBucketTest, WhatOneDoesNotUseIsTheOthers) {
  const int idle = bucket_.Open(true, now_);
  const int preload = bucket_.Open(false, now_);
  const int other = bucket_.Open(false, now_);
  std::map<int, uint64_t> taken = Run({preload, other}, milliseconds(10'000));
  // All but what lies in the idle one's account.
  EXPECT_NEAR(static_cast<double>(taken[preload] + taken[other]), 9.9 * kRate, 0.01 * kRate);
  EXPECT_NEAR(static_cast<double>(taken[preload]), static_cast<double>(taken[other]), 0.01 * kRate);
  EXPECT_EQ(bucket_.Take(idle, kPlenty, now_), kRate / 10);
}

TEST_F(TokenBucketTest, SharesChangeWithWhoWaitsAndWhoIsThere) {
  const int first = bucket_.Open(true, now_);
  const int second = bucket_.Open(false, now_);
  bucket_.SetAwaited(second, true, now_);
  std::map<int, uint64_t> taken = Run({first, second}, milliseconds(1'000));
  EXPECT_NEAR(static_cast<double>(taken[second]), 0.5 * kRate, 0.01 * kRate);
  bucket_.SetAwaited(first, false, now_);
  taken = Run({first, second}, milliseconds(1'000));
  EXPECT_NEAR(static_cast<double>(taken[second]), 0.8 * kRate, 0.01 * kRate);
  bucket_.Close(second, now_);
  taken = Run({first}, milliseconds(1'000));
  EXPECT_NEAR(static_cast<double>(taken[first]), kRate, 0.01 * kRate);
}

}  // namespace
}  // namespace weightd::source
