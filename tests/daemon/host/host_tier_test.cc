#include "daemon/host/host_tier.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "common/status.h"
#include "gtest/gtest.h"

namespace weightd::host {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::shared_ptr<HostTier> Tier(uint64_t budget, uint64_t available = uint64_t{1} << 50) {
  HostTierOptions options;
  options.budget = budget;
  options.available_memory = [available]() -> absl::StatusOr<uint64_t> { return available; };
  return std::make_shared<HostTier>(std::move(options));
}

TEST(HostTier, ReservationsCountInWholePagesAndAreGivenBack) {
  const auto tier = Tier(10 * kMiB);
  {
    const auto reservation = tier->Reserve(kMiB + 1);
    ASSERT_TRUE(reservation.ok());
    EXPECT_EQ(reservation->bytes(), kMiB + 4096);
    EXPECT_EQ(tier->usage().loading, kMiB + 4096);
  }
  EXPECT_EQ(tier->usage().loading, 0u);
}

TEST(HostTier, TheWholeBudgetCanBeUsedAndNoPageMore) {
  const auto tier = Tier(2 * kMiB);
  auto whole = tier->Reserve(2 * kMiB);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(ReasonOf(tier->Reserve(1).status()), Reason::kBudgetExceeded);
  *whole = Reservation();
  EXPECT_TRUE(tier->Reserve(2 * kMiB).ok());
}

TEST(HostTier, RefusalSaysWhatHoldsTheMemoryAndWhatToDo) {
  const auto tier = Tier(8 * kMiB);
  const auto held = tier->Reserve(6 * kMiB);
  ASSERT_TRUE(held.ok());
  const absl::Status refused = tier->Reserve(3 * kMiB).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(absl::StrContains(refused.message(), "needs 3.0 MiB")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "budget of 8.0 MiB")) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "6.0 MiB by running loads")) << refused;
  EXPECT_FALSE(HintOf(refused).empty());
}

TEST(HostTier, AModelLargerThanTheBudgetIsToldSo) {
  const absl::Status refused = Tier(8 * kMiB)->Reserve(9 * kMiB).status();
  EXPECT_EQ(ReasonOf(refused), Reason::kBudgetExceeded);
  EXPECT_TRUE(absl::StrContains(refused.message(), "whole budget is 8.0 MiB")) << refused;
}

TEST(HostTier, AbsurdSizesDoNotWrap) {
  const auto tier = Tier(8 * kMiB);
  const auto held = tier->Reserve(kMiB);
  for (const uint64_t bytes : {~uint64_t{0}, ~uint64_t{0} - 4096, uint64_t{1} << 63}) {
    EXPECT_EQ(ReasonOf(tier->Reserve(bytes).status()), Reason::kBudgetExceeded) << bytes;
  }
}

TEST(HostTier, AFullMachineRefusesWhatTheBudgetAllows) {
  const auto tier = Tier(100 * kMiB, 10 * kMiB);
  EXPECT_EQ(ReasonOf(tier->Reserve(11 * kMiB).status()), Reason::kHostMemoryShort);
  EXPECT_TRUE(tier->Reserve(10 * kMiB).ok());
}

TEST(HostTier, TwoReservationsDoNotCountOnTheSameFreeMemory) {
  const auto tier = Tier(100 * kMiB, 10 * kMiB);
  const auto first = tier->Reserve(6 * kMiB);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(ReasonOf(tier->Reserve(6 * kMiB).status()), Reason::kHostMemoryShort);
  EXPECT_TRUE(tier->Reserve(4 * kMiB).ok());
}

TEST(HostTier, UnreadableMemoryIsAnErrorNotAGuess) {
  HostTierOptions options;
  options.budget = kMiB;
  options.available_memory = []() -> absl::StatusOr<uint64_t> {
    return Error(Reason::kInternal, "no /proc");
  };
  const auto tier = std::make_shared<HostTier>(std::move(options));
  EXPECT_EQ(ReasonOf(tier->Reserve(1).status()), Reason::kInternal);
  EXPECT_EQ(tier->usage().loading, 0u);
}

TEST(Reservation, SplitKeepsTheSum) {
  const auto tier = Tier(8 * kMiB);
  auto whole = tier->Reserve(8 * kMiB);
  ASSERT_TRUE(whole.ok());
  Reservation part = whole->Split(3 * kMiB);
  EXPECT_EQ(whole->bytes(), 5 * kMiB);
  EXPECT_EQ(part.bytes(), 3 * kMiB);
  EXPECT_EQ(tier->usage().loading, 8 * kMiB);
  *whole = Reservation();
  EXPECT_EQ(tier->usage().loading, 3 * kMiB);
  const Reservation moved = std::move(part);
  EXPECT_EQ(tier->usage().loading, 3 * kMiB);
}

TEST(HostTier, ConcurrentReservationsNeverExceedTheBudget) {
  constexpr uint64_t kBudget = 16 * kMiB;
  const auto tier = Tier(kBudget);
  std::atomic<uint64_t> held = 0;
  std::atomic<bool> exceeded = false;
  std::atomic<int> refused = 0;
  constexpr int kThreads = 8;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(thread);
      for (int round = 0; round < 500; ++round) {
        auto reservation = tier->Reserve((1 + random() % 8) * kMiB);
        if (!reservation.ok()) {
          ++refused;
          continue;
        }
        if (held.fetch_add(reservation->bytes()) + reservation->bytes() > kBudget) {
          exceeded = true;
        }
        const HostUsage usage = tier->usage();
        if (usage.loading > kBudget) {
          exceeded = true;
        }
        std::this_thread::yield();
        held -= reservation->bytes();
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_FALSE(exceeded);
  EXPECT_GT(refused, 0) << "the threads never met";
  EXPECT_EQ(tier->usage().loading, 0u);
}

}  // namespace
}  // namespace weightd::host
