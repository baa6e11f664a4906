#include "daemon/configured_gpus.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "common/uri.h"
#include "daemon/config.h"

namespace weightd {
namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

GpuId Gpu(uint8_t index) { return GpuId({0x47, index}); }

// A node's GPUs as far as they can be told without using them.
class ListedGpus final : public device::Gpus {
 public:
  explicit ListedGpus(uint8_t count) : count_(count) {}

  absl::Status why_none() const override { return absl::OkStatus(); }
  std::vector<device::GpuStatus> List() const override {
    std::vector<device::GpuStatus> gpus(count_);
    for (uint8_t i = 0; i < count_; ++i) {
      gpus[i].id = Gpu(i);
      gpus[i].index = i;
    }
    return gpus;
  }
  absl::StatusOr<GpuId> Find(absl::string_view name) const override {
    for (uint8_t i = 0; i < count_; ++i) {
      if (name == std::to_string(i) || name == Gpu(i).ToText()) {
        return Gpu(i);
      }
    }
    return Unusable();
  }
  absl::StatusOr<device::Reservation> Reserve(const GpuId&, uint64_t) override {
    return Unusable();
  }
  absl::StatusOr<device::Reservation> ReserveHeld(const GpuId&, uint64_t) override {
    return Unusable();
  }
  device::Usage UsageOf(const GpuId&) const override { return {}; }
  absl::StatusOr<std::unique_ptr<device::Upload>> BeginUpload(device::UploadPlan) override {
    return Unusable();
  }
  absl::StatusOr<std::shared_ptr<device::Segment>> CopyPrivately(device::PrivateCopyPlan,
                                                                 Cancellation&) override {
    return Unusable();
  }
  absl::StatusOr<std::shared_ptr<device::Segment>> Import(device::ImportPlan&,
                                                          Cancellation&) override {
    return Unusable();
  }
  absl::Status Drain(const GpuId&) override { return Unusable(); }
  absl::Status Resume(const GpuId&) override { return Unusable(); }
  void OnLost(std::function<void(const GpuId&, const absl::Status&)>) override {}

 private:
  static absl::Status Unusable() { return Error(Reason::kDeviceUnavailable, "no such GPU"); }

  const uint8_t count_;
};

v1::Config Config(const std::string& text) {
  auto config = ParseConfig(text, "w.yaml", {});
  EXPECT_TRUE(config.ok()) << config.status();
  return *std::move(config);
}

cache::Placements Placed(const std::string& text, uint8_t gpus) {
  auto placements = PlacementsOf(Config(text), ListedGpus(gpus));
  EXPECT_TRUE(placements.ok()) << placements.status();
  return *std::move(placements);
}

TEST(GpusOptionsTest, AreTheConfigs) {
  const device::GpusOptions some =
      GpusOptionsOf(Config("gpu: {driver: /d, budget: 40GiB, reserve: 2GiB, ring: 64MiB, "
                           "budgets: [{gpu: 1, budget: 10GiB}]}"));
  EXPECT_EQ(some.driver, "/d");
  EXPECT_EQ(some.budget_bytes, 40 * kGiB);
  ASSERT_EQ(some.budgets.size(), 1);
  EXPECT_EQ(some.budgets[0], (std::pair<std::string, uint64_t>("1", 10 * kGiB)));
  EXPECT_EQ(some.reserve, 2 * kGiB);
  EXPECT_EQ(some.ring, 64 << 20);
  const device::GpusOptions part = GpusOptionsOf(Config("gpu: {budget: 75%, reserve: 0}"));
  EXPECT_FALSE(part.budget_bytes.has_value());
  EXPECT_EQ(part.budget_fraction, 0.75);
  EXPECT_EQ(part.reserve, 0);
}

TEST(GpusOptionsTest, DefaultsAreTheDevicesOwn) {
  const device::GpusOptions expected;
  const device::GpusOptions options = GpusOptionsOf(Config(""));
  EXPECT_EQ(options.driver, expected.driver);
  EXPECT_EQ(options.budget_bytes, expected.budget_bytes);
  EXPECT_EQ(options.budget_fraction, expected.budget_fraction);
  EXPECT_EQ(options.reserve, expected.reserve);
  EXPECT_EQ(options.ring, expected.ring);
}

TEST(PlacementsTest, NameEachGpuOnce) {
  const auto placements = Placed(
      "models:\n"
      "- {name: plain, uri: /plain}\n"
      "- {name: all, uri: /all, placement: {gpus: [1, all]}}\n"
      "- {name: only, uri: /only, placement: {gpus: [1, \"" +
          Gpu(1).ToText() + "\"], gpu_only: true, handles: legacy}}\n",
      2);
  ASSERT_EQ(placements.size(), 2);
  const cache::Placement& all = placements.at(Uri::Parse("/all")->ToString());
  EXPECT_TRUE(all.host);
  EXPECT_EQ(all.gpus, std::vector<GpuId>({Gpu(1), Gpu(0)}));
  EXPECT_EQ(all.handles, device::Handles::kDescriptor);
  const cache::Placement& only = placements.at(Uri::Parse("/only")->ToString());
  EXPECT_FALSE(only.host);
  EXPECT_EQ(only.gpus, std::vector<GpuId>({Gpu(1)}));
  EXPECT_EQ(only.handles, device::Handles::kLegacy);
}

TEST(PlacementsTest, PassOverGpusThatTheNodeDoesNotHave) {
  const std::string text =
      "models:\n"
      "- {name: some, uri: /some, placement: {gpus: [0, 7]}}\n"
      "- {name: only, uri: /only, placement: {gpus: [7, all], gpu_only: true}}\n";
  const auto one = Placed(text, 1);
  EXPECT_EQ(one.at(Uri::Parse("/some")->ToString()).gpus, std::vector<GpuId>({Gpu(0)}));
  const auto none = Placed(text, 0);
  EXPECT_TRUE(none.at(Uri::Parse("/some")->ToString()).gpus.empty());
  EXPECT_TRUE(none.at(Uri::Parse("/some")->ToString()).host);
  EXPECT_TRUE(none.at(Uri::Parse("/only")->ToString()).gpus.empty());
  EXPECT_FALSE(none.at(Uri::Parse("/only")->ToString()).host);
}

}  // namespace
}  // namespace weightd
