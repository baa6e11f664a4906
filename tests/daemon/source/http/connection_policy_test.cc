#include "daemon/source/http/connection_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>

#include "daemon/source/http/connection_budget.h"

namespace weightd::source {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// A link where `count` connections bring rate(count), which new ones come up to within two ticks.
class Link {
 public:
  explicit Link(std::function<double(int)> rate) : rate_(std::move(rate)) {}

  // Lets so many ticks pass.
  void Run(ConnectionCount& count, int ticks) {
    for (int i = 0; i < ticks; ++i) {
      now_ += (rate_(count.count()) - now_) * 2 / 3;
      count.Observe(now_);
      most_ = std::max(most_, count.count());
    }
  }
  int most() const { return most_; }

 private:
  const std::function<double(int)> rate_;
  double now_ = 0;
  int most_ = 0;
};

TEST(ConnectionCount, GrowsToTheMostWhereEachConnectionIsSlow) {
  ConnectionCount count(ConnectionCount::kFirst, 32);
  Link link([](int connections) { return 125.0 * connections; });
  link.Run(count, 12);
  EXPECT_EQ(count.count(), 32);
}

TEST(ConnectionCount, StaysSmallWhereMoreBringNothing) {
  ConnectionCount count(ConnectionCount::kFirst, 32);
  Link link([](int) { return 2500.0; });
  link.Run(count, 20);
  EXPECT_TRUE(count.settled());
  EXPECT_EQ(count.count(), ConnectionCount::kFirst);
  EXPECT_EQ(link.most(), 2 * ConnectionCount::kFirst);
}

TEST(ConnectionCount, IsNotMisledByAPause) {
  ConnectionCount count(ConnectionCount::kFirst, 32);
  for (const double rate : {300.0, 1200.0, 2500.0, 2500.0, 2450.0}) {
    count.Observe(rate);
  }
  EXPECT_TRUE(count.settled()) << "twice the connections brought less";
  EXPECT_EQ(count.count(), ConnectionCount::kFirst);
}

TEST(ConnectionCount, IsNotMisledByABurst) {
  ConnectionCount count(ConnectionCount::kFirst, 32);
  for (const double rate : {1200.0, 1500.0, 1600.0, 2300.0}) {
    count.Observe(rate);
  }
  EXPECT_EQ(count.count(), 2 * ConnectionCount::kFirst) << "one look is no gain yet";
  count.Observe(1300);
  EXPECT_TRUE(count.settled());
  EXPECT_EQ(count.count(), ConnectionCount::kFirst);
}

TEST(ConnectionCount, StopsWhereTheLinkIsFull) {
  ConnectionCount count(ConnectionCount::kFirst, 64);
  Link link([](int connections) { return std::min(100.0 * connections, 1300.0); });
  link.Run(count, 20);
  EXPECT_EQ(count.count(), 16);
}

TEST(ConnectionCount, IsNeverAboveTheMost) {
  for (const int most : {1, 3, 5}) {
    ConnectionCount count(ConnectionCount::kFirst, most);
    Link link([](int connections) { return 100.0 * connections; });
    link.Run(count, 100);
    EXPECT_EQ(link.most(), most);
  }
}

TEST(ConnectionCount, LooksAgainAfterAWhile) {
  ConnectionCount count(ConnectionCount::kFirst, 32);
  Link full([](int) { return 100.0; });
  full.Run(count, 20);
  Link free([](int connections) { return 100.0 * connections; });
  free.Run(count, 70);
  EXPECT_EQ(count.count(), 32);
}

TEST(ConnectionCount, GrowsAtOnceWhenMoreAreAllowed) {
  ConnectionCount count(ConnectionCount::kFirst, 6);
  Link link([](int connections) { return 100.0 * connections; });
  link.Run(count, 20);
  EXPECT_EQ(count.count(), 6);
  count.SetMost(32);
  link.Run(count, 12);
  EXPECT_EQ(count.count(), 32);
  count.SetMost(2);
  EXPECT_EQ(count.count(), 2);
}

TEST(ConnectionCount, BacksOffWhereTheServerIsAskedTooMuch) {
  ConnectionCount count(ConnectionCount::kFirst, 32);
  Link link([](int connections) { return 100.0 * connections; });
  link.Run(count, 20);
  count.Refused();
  EXPECT_EQ(count.count(), 16);
  link.Run(count, 20);
  EXPECT_EQ(count.count(), 16);
  for (int i = 0; i < 10; ++i) {
    count.Refused();
  }
  EXPECT_EQ(count.count(), ConnectionCount::kFirst);
}

TEST(MostConnections, IsSharedByWhoIsWaitedFor) {
  EXPECT_EQ(MostConnections(32, true, {.awaited = 1}, 4), 32);
  EXPECT_EQ(MostConnections(32, true, {.awaited = 5}, 20), 6);
  EXPECT_EQ(MostConnections(32, false, {.background = 4}, 0), 8);
  EXPECT_EQ(MostConnections(32, true, {.awaited = 1, .background = 3}, 16), 25);
  // A fifth of the budget, and a quarter of what the others use.
  EXPECT_EQ(MostConnections(32, false, {.awaited = 1, .background = 1}, 25), 6);
  EXPECT_EQ(MostConnections(32, false, {.awaited = 1, .background = 1}, 8), 2);
  EXPECT_EQ(MostConnections(32, false, {.awaited = 1, .background = 3}, 4), 1);
  EXPECT_EQ(MostConnections(1, true, {.awaited = 3}, 3), 1);
}

TEST(ConnectionBudget, FollowsItsMembers) {
  ConnectionBudget budget(32);
  ConnectionBudget::Member client(&budget);
  EXPECT_EQ(client.Update(true, 16), 32);
  {
    ConnectionBudget::Member preload(&budget);
    EXPECT_EQ(preload.Update(false, 4), 4);
    EXPECT_EQ(client.Update(true, 16), 25);
    // A client joins it.
    EXPECT_EQ(preload.Update(true, 4), 16);
    EXPECT_EQ(client.Update(true, 16), 16);
  }
  EXPECT_EQ(client.Update(true, 16), 32);
}

TEST(ConnectionBudget, RemembersWhatDidWell) {
  ConnectionBudget budget(32);
  EXPECT_EQ(budget.first(), ConnectionCount::kFirst);
  budget.Settled(32);
  EXPECT_EQ(budget.first(), 16);
  budget.Settled(2);
  EXPECT_EQ(budget.first(), ConnectionCount::kFirst);
}

TEST(RangeBytes, AreLargeFirstAndSmallAtTheEnd) {
  EXPECT_EQ(RangeBytes(2048 * kMiB, 4, 32 * kMiB), 32 * kMiB);
  EXPECT_EQ(RangeBytes(1024 * kMiB, 32, 32 * kMiB), 16 * kMiB);
  EXPECT_EQ(RangeBytes(100 * kMiB, 32, 32 * kMiB), 4 * kMiB);
  EXPECT_EQ(RangeBytes(1, 32, 32 * kMiB), 4 * kMiB);
  EXPECT_EQ(RangeBytes(100 * kMiB, 32, kMiB), kMiB);
}

}  // namespace
}  // namespace weightd::source
