#include "daemon/cache/waiter.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"

namespace weightd::cache {
namespace {

ProgressSnapshot Done(uint64_t bytes) {
  return {.phase = pipeline::Phase::kTransferring, .bytes_done = bytes, .bytes_total = 100};
}

TEST(WaiterTest, NothingIsToldAfterDone) {
  int progress = 0;
  int done = 0;
  Waiter waiter([&](const ProgressSnapshot&) { ++progress; },
                [&](const absl::StatusOr<Grant>&) { ++done; });
  waiter.TellProgress(Done(1));
  waiter.TellProgress(Done(1));
  waiter.TellProgress(Done(2));
  EXPECT_TRUE(waiter.TellDone(absl::CancelledError()));
  waiter.TellProgress(Done(3));
  EXPECT_FALSE(waiter.TellDone(absl::CancelledError()));
  EXPECT_FALSE(waiter.Close());
  EXPECT_EQ(progress, 2);
  EXPECT_EQ(done, 1);
}

TEST(WaiterTest, NothingIsToldAfterClose) {
  Waiter waiter([](const ProgressSnapshot&) { ADD_FAILURE(); },
                [](const absl::StatusOr<Grant>&) { ADD_FAILURE(); });
  EXPECT_TRUE(waiter.Close());
  waiter.TellProgress(Done(1));
  EXPECT_FALSE(waiter.TellDone(Grant()));
}

TEST(WaiterTest, CloseWaitsForACallbackThatRuns) {
  absl::Notification running;
  absl::Notification closing;
  std::atomic<bool> ended = false;
  Waiter waiter(
      [&](const ProgressSnapshot&) {
        running.Notify();
        closing.WaitForNotification();
        for (int i = 0; i < 1000; ++i) {
          std::this_thread::yield();
        }
        ended = true;
      },
      nullptr);
  std::thread teller([&] { waiter.TellProgress(Done(1)); });
  running.WaitForNotification();
  closing.Notify();
  waiter.Close();
  EXPECT_TRUE(ended);
  teller.join();
}

TEST(WaiterTest, ACallbackMayCloseItsOwnWaiter) {
  std::unique_ptr<Waiter> waiter;
  waiter = std::make_unique<Waiter>(
      [&waiter](const ProgressSnapshot&) { EXPECT_TRUE(waiter->Close()); }, nullptr);
  waiter->TellProgress(Done(1));
  EXPECT_FALSE(waiter->TellDone(Grant()));
}

TEST(WaiterTest, CallbacksAreFreedWhenNobodyIsToldAnyMore) {
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = held;
  Waiter waiter(nullptr, [held](const absl::StatusOr<Grant>&) {});
  held.reset();
  EXPECT_FALSE(watched.expired());
  waiter.TellDone(Grant());
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace weightd::cache
