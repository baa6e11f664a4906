#include "daemon/descriptor_plan.h"

#include <gtest/gtest.h>

#include <string>

#include "daemon/config.h"
#include "tests/daemon/config_parsing.h"

namespace weightd {
namespace {

constexpr char kTwoListeners[] =
    "listeners:\n"
    "  - {name: a, directory: /run/a, max_connections: 1000, max_sessions: 200}\n"
    "  - {name: b, directory: /run/b, max_connections: 100, max_sessions: 4}\n";

TEST(DescriptorPlan, CountsConnectionsTwiceAndSessions) {
  const DescriptorPlan plan = PlanDescriptors(Parsed(kTwoListeners), 0, 1 << 20);
  EXPECT_EQ(plan.listeners, 2 * 1100 + 204);
  EXPECT_TRUE(plan.fits());
}

TEST(DescriptorPlan, CountsWhatElseIsConfigured) {
  const auto others = [](const std::string& text) {
    return PlanDescriptors(Parsed(text), 0, 1024).others;
  };
  const uint64_t least = others("");
  EXPECT_LT(least, 1024);
  EXPECT_GT(others("metrics: {address: \"127.0.0.1:9464\"}\n"), least);
  EXPECT_GT(others("cache: {max_loads: 64}\n"), least);
  EXPECT_GT(others("models: [{name: m, uri: /m}]\n"), least);
  EXPECT_GT(others("keeper_dir: /run/keeper\n"), least);
}

TEST(DescriptorPlan, CountsCopiesOnGpus) {
  const auto others = [](const std::string& text, uint64_t gpus) {
    return PlanDescriptors(Parsed(text), gpus, 1024).others;
  };
  const std::string placed = "models: [{name: m, uri: /m, placement: {gpus: [all]}}]\n";
  const std::string kept = "keeper_dir: /run/keeper\n";
  EXPECT_GT(others("", 1), others("", 0)) << "clients' copies";
  EXPECT_EQ(others(placed, 8) - others(placed, 1), 7);
  EXPECT_EQ(others(kept + placed, 8) - others(kept + placed, 1), 2 * 7)
      << "each is the keeper's, too";
}

TEST(DescriptorPlan, LowersListenersByTheSameShare) {
  v1::Config config = Parsed(kTwoListeners);
  const DescriptorPlan plan = PlanDescriptors(config, 0, 1024);
  ASSERT_FALSE(plan.fits());
  LowerToFit(plan, config);
  EXPECT_LE(PlanDescriptors(config, 0, 1024).needed(), 1024);
  EXPECT_NEAR(config.listeners(0).max_connections(), 10.0 * config.listeners(1).max_connections(),
              10);
  EXPECT_EQ(config.listeners(1).max_sessions(), 2) << "enough for two users";
}

TEST(DescriptorPlan, LeavesListenersAQuarter) {
  v1::Config config = Parsed(kTwoListeners);
  LowerToFit(PlanDescriptors(config, 0, 256), config);
  const uint64_t listeners = PlanDescriptors(config, 0, 256).listeners;
  EXPECT_LE(listeners, 64 + 4);
  EXPECT_GT(listeners, 48);
}

TEST(DescriptorPlan, ChangesNothingThatFits) {
  v1::Config config = Parsed(kTwoListeners);
  LowerToFit(PlanDescriptors(config, 0, 1 << 20), config);
  EXPECT_EQ(config.listeners(0).max_connections(), 1000);
}

}  // namespace
}  // namespace weightd
