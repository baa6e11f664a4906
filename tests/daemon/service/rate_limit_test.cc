#include "daemon/service/rate_limit.h"

#include <gtest/gtest.h>

namespace weightd::service {
namespace {

constexpr absl::Duration kStart = absl::Hours(5);

int Taken(RateLimit& limit, uint32_t uid, absl::Duration now) {
  int taken = 0;
  while (limit.Take(uid, now) == absl::ZeroDuration()) {
    ++taken;
  }
  return taken;
}

TEST(RateLimit, TwiceAsManyPassAtOnceThenAnEvenPace) {
  for (const uint32_t rate : {1U, 3U, 10U, 1000U}) {
    RateLimit limit(rate);
    EXPECT_EQ(Taken(limit, 7, kStart), 2 * rate);
    EXPECT_EQ(Taken(limit, 7, kStart + absl::Seconds(1)), rate);
    EXPECT_EQ(Taken(limit, 7, kStart + absl::Hours(1)), 2 * rate);
  }
}

TEST(RateLimit, SaysHowLongToWait) {
  RateLimit limit(10);
  EXPECT_EQ(Taken(limit, 7, kStart), 20);
  const absl::Duration wait = limit.Take(7, kStart);
  EXPECT_EQ(wait, absl::Milliseconds(100));
  EXPECT_EQ(limit.Take(7, kStart + absl::Milliseconds(40)), absl::Milliseconds(60));
  EXPECT_EQ(limit.Take(7, kStart + wait), absl::ZeroDuration());
}

TEST(RateLimit, UsersHaveTheirOwn) {
  RateLimit limit(1);
  EXPECT_EQ(Taken(limit, 7, kStart), 2);
  EXPECT_EQ(Taken(limit, 8, kStart), 2);
}

TEST(RateLimit, NoneIsNone) {
  RateLimit limit(0);
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_EQ(limit.Take(7, kStart), absl::ZeroDuration());
  }
  EXPECT_EQ(limit.users(), 0u);
}

TEST(RateLimit, ForgetsWhoPaused) {
  RateLimit limit(1000);
  absl::Duration now = kStart;
  for (uint32_t uid = 0; uid < 100'000; ++uid) {
    now += absl::Milliseconds(1);
    ASSERT_EQ(limit.Take(uid, now), absl::ZeroDuration());
    ASSERT_LE(limit.users(), 64u);
  }
}

TEST(RateLimit, ForgettingLetsNobodyThroughMore) {
  RateLimit limit(1);
  EXPECT_EQ(Taken(limit, 7, kStart), 2);
  for (uint32_t uid = 100; uid < 300; ++uid) {
    limit.Take(uid, kStart);
  }
  EXPECT_EQ(Taken(limit, 7, kStart), 0);
}

}  // namespace
}  // namespace weightd::service
