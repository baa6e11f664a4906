#include "daemon/cache/eviction.h"

#include <gtest/gtest.h>

namespace weightd::cache {
namespace {

constexpr EntryId kA{1};
constexpr EntryId kB{2};
constexpr EntryId kC{3};

bool Any(EntryId) { return true; }

using Victims = std::vector<EntryId>;

class EvictionOrderTest : public ::testing::Test {
 protected:
  EvictionOrderTest() {
    order_.Add(kA, 1);
    order_.Add(kB, 10);
    order_.Add(kC, 5);
  }
  EvictionOrder order_;
};

TEST_F(EvictionOrderTest, TheLeastRecentlyUsedGoFirst) {
  EXPECT_EQ(order_.PickVictims(1, Any), Victims({kA}));
  EXPECT_EQ(order_.PickVictims(11, Any), Victims({kA, kB}));
}

TEST_F(EvictionOrderTest, WhatOthersMakeSuperfluousStays) {
  EXPECT_EQ(order_.PickVictims(10, Any), Victims({kB}));
}

TEST_F(EvictionOrderTest, TooLittleIsNothing) {
  EXPECT_EQ(order_.PickVictims(16, Any), Victims({kA, kB, kC}));
  EXPECT_EQ(order_.PickVictims(17, Any), Victims());
}

TEST_F(EvictionOrderTest, UseMovesToTheEnd) {
  order_.Hold(kA);
  EXPECT_EQ(order_.PickVictims(1, Any), Victims({kB}));
  order_.Unhold(kA);
  EXPECT_EQ(order_.PickVictims(15, Any), Victims({kB, kC}));
  EXPECT_EQ(order_.PickVictims(16, Any), Victims({kB, kC, kA}));
}

TEST_F(EvictionOrderTest, AHoldThatWasNoUseMovesNothing) {
  order_.Hold(kA);
  order_.Hold(kB);
  order_.Hold(kC);
  for (const EntryId id : {kC, kA, kB}) {
    order_.UnholdUnused(id);
  }
  EXPECT_EQ(order_.PickVictims(1, Any), Victims({kA}));
  EXPECT_EQ(order_.PickVictims(11, Any), Victims({kA, kB}));
  // Unless it was used meanwhile.
  order_.Hold(kA);
  order_.Hold(kA);
  order_.Unhold(kA);
  order_.UnholdUnused(kA);
  EXPECT_EQ(order_.PickVictims(15, Any), Victims({kB, kC}));
}

TEST_F(EvictionOrderTest, WhatIsInUseIsNoVictim) {
  order_.Hold(kB);
  order_.Hold(kB);
  order_.Unhold(kB);
  EXPECT_TRUE(order_.InUse(kB));
  EXPECT_EQ(order_.PickVictims(7, Any), Victims());
}

TEST_F(EvictionOrderTest, WhatWouldNotComeFreeIsSkipped) {
  EXPECT_EQ(order_.PickVictims(5, [](EntryId id) { return id != kB; }), Victims({kC}));
}

TEST_F(EvictionOrderTest, RemovedEntriesAreForgotten) {
  order_.Hold(kA);
  order_.Remove(kA);
  order_.Remove(kB);
  EXPECT_EQ(order_.PickVictims(5, Any), Victims({kC}));
  EXPECT_EQ(order_.PickVictims(6, Any), Victims());
}

}  // namespace
}  // namespace weightd::cache
