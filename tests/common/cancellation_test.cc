#include "common/cancellation.h"

#include <gtest/gtest.h>

#include <thread>

#include "absl/time/time.h"

namespace weightd {
namespace {

TEST(CancellationTest, FirstReasonCountsAndWakesOnce) {
  Cancellation cancellation;
  EXPECT_FALSE(cancellation.cancelled());
  int woken = 0;
  auto registration = cancellation.OnCancel([&] { ++woken; });
  cancellation.Cancel(absl::CancelledError("first"));
  cancellation.Cancel(absl::DeadlineExceededError("second"));
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(cancellation.status().message(), "first");
}

TEST(CancellationTest, LateRegistrationWakesAtOnceAndEndedOnesNever) {
  Cancellation cancellation;
  int ended = 0;
  {
    auto registration = cancellation.OnCancel([&] { ++ended; });
  }
  cancellation.Cancel(absl::CancelledError("x"));
  int late = 0;
  auto registration = cancellation.OnCancel([&] { ++late; });
  EXPECT_EQ(ended, 0);
  EXPECT_EQ(late, 1);
}

TEST(CancellationTest, AWaitEndsWithItsTimeOrAtOnce) {
  Cancellation cancellation;
  cancellation.WaitFor(absl::Milliseconds(1));
  std::thread other([&] { cancellation.Cancel(absl::CancelledError("x")); });
  cancellation.WaitFor(absl::InfiniteDuration());
  other.join();
  EXPECT_TRUE(cancellation.cancelled());
}

}  // namespace
}  // namespace weightd
