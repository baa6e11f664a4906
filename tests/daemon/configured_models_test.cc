#include "daemon/configured_models.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/pins.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/events.h"
#include "tests/daemon/cache/readoption_fixture.h"

namespace weightd {
namespace {

using Model = ConfiguredModels::Model;
using State = v1::ConfiguredModel;

class ConfiguredModelsTest : public cache::ReadoptionTest {
 protected:
  void SetUp() override { Next(1000); }
  void TearDown() override {
    models_.reset();
    ReadoptionTest::TearDown();
  }

  static Model Entry(const std::string& name, bool preload, bool pin = false, Pins pins = {}) {
    std::string settings = name + (preload ? " preload" : "") + (pin ? " pin" : "");
    for (const auto& [file, digest] : pins) {
      settings += digest;
    }
    return {.name = name,
            .uri = Named(name),
            .preload = preload,
            .pin = pin,
            .pins = std::move(pins),
            .settings = std::move(settings)};
  }
  static Model Preloaded(const std::string& name) { return Entry(name, /*preload=*/true); }

  void Keep(std::vector<Model> models) {
    if (models_ == nullptr) {
      models_ = std::make_unique<ConfiguredModels>(std::move(models), cache_.get());
    } else {
      models_->Replace(std::move(models));
    }
  }

  v1::ConfiguredModel Listed(const std::string& name) {
    for (v1::ConfiguredModel& model : models_->Snapshot()) {
      if (model.name() == name) {
        return std::move(model);
      }
    }
    return {};
  }
  // Fails the test after half a minute.
  v1::ConfiguredModel Await(const std::string& name, v1::ConfiguredModel::State state) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (Listed(name).state() != state) {
      if (absl::Now() > deadline) {
        ADD_FAILURE() << name << ": " << Listed(name).ShortDebugString();
        break;
      }
      std::this_thread::yield();
    }
    return Listed(name);
  }
  bool IsPinned(const std::string& name) { return cache_->Model(Named(name))->pinned; }

  std::unique_ptr<ConfiguredModels> models_;
};

TEST_F(ConfiguredModelsTest, PreloadsAndPinsWhatItPromises) {
  Put("a", 4);
  Put("b", 4);
  Put("c", 4);
  Keep({Entry("c", false, /*pin=*/true), Entry("b", true, /*pin=*/true), Preloaded("a")});
  Await("a", State::READY);
  Await("b", State::READY);
  EXPECT_FALSE(IsPinned("a"));
  EXPECT_TRUE(IsPinned("b"));
  EXPECT_EQ(Listed("c").state(), State::ON_DEMAND);
  Load("c");
  trail_->Await(cache::EventKind::kPinned, 2);
  EXPECT_TRUE(IsPinned("c"));
  EXPECT_EQ(models_->Snapshot()[0].name(), "a");
  ASSERT_TRUE(cache_->Evict(Named("a"), false).ok());
  EXPECT_EQ(Listed("a").state(), State::EVICTED);
}

TEST_F(ConfiguredModelsTest, TriesAgainWhatFailedAndSaysWhy) {
  Put("good", 4);
  Keep({Preloaded("bad"), Preloaded("good")});
  Await("good", State::READY);
  const v1::ConfiguredModel bad = Await("bad", State::RETRYING);
  EXPECT_GE(bad.failures(), 1u);
  EXPECT_NE(bad.last_error(), "");
  const absl::Duration pause =
      absl::FromUnixSeconds(bad.next_try_at().seconds()) - absl::Now() + absl::Seconds(1);
  EXPECT_GT(pause, absl::ZeroDuration());
  EXPECT_LT(pause, absl::Seconds(4));
  Put("bad", 4);
  const v1::ConfiguredModel mended = Await("bad", State::READY);
  EXPECT_EQ(mended.failures(), 0u);
  EXPECT_EQ(mended.last_error(), "");
}

TEST_F(ConfiguredModelsTest, WhatIsOnTheListNoMoreLeaves) {
  for (const char* name : {"unused", "leased", "pinned", "kept"}) {
    Put(name, 4);
  }
  Keep({Entry("unused", true, /*pin=*/true), Preloaded("leased"), Preloaded("pinned"),
        Preloaded("kept")});
  for (const char* name : {"unused", "leased", "pinned", "kept"}) {
    Await(name, State::READY);
  }
  const LeaseId lease = Lease("leased");
  ASSERT_TRUE(cache_->Pin(Named("pinned"), true).ok());
  Keep({Preloaded("kept")});
  EXPECT_FALSE(IsResident("unused"));
  EXPECT_TRUE(IsResident("leased"));
  EXPECT_TRUE(IsPinned("pinned"));
  EXPECT_TRUE(IsResident("kept"));
  EXPECT_EQ(models_->Snapshot().size(), 1u);
  Release(lease);
  EXPECT_FALSE(IsResident("leased"));
  EXPECT_EQ(store_.loads(), 4);
}

TEST_F(ConfiguredModelsTest, WhatClientsLoadedStaysThoughItsNameGoes) {
  Put("m", 4);
  Keep({Entry("m", false, /*pin=*/true)});
  Load("m");
  trail_->Await(cache::EventKind::kPinned);
  Keep({});
  EXPECT_TRUE(IsResident("m"));
  EXPECT_FALSE(IsPinned("m"));
}

TEST_F(ConfiguredModelsTest, APreloadOfWhatIsGoneIsCancelledUnlessClientsWait) {
  Put("alone", 4);
  Put("awaited", 4);
  store_.CloseGate();
  Keep({Preloaded("alone"), Entry("awaited", true, /*pin=*/true)});
  store_.AwaitLoads(2);
  const auto client = Acquire("awaited");
  EXPECT_EQ(Listed("alone").state(), State::LOADING);
  Keep({});
  EXPECT_EQ(trail_->Await(cache::EventKind::kLoadFailed).uri, Named("alone"));
  store_.OpenGate();
  EXPECT_TRUE(client->Await().ok());
  EXPECT_FALSE(IsPinned("awaited"));
  store_.AwaitIdle();
  EXPECT_FALSE(IsResident("alone"));
}

TEST_F(ConfiguredModelsTest, ALoadUnderWayGoesOnThroughAChange) {
  Put("m", 4);
  store_.CloseGate();
  Keep({Preloaded("m")});
  store_.AwaitLoads(1);
  Keep({Entry("m", true, /*pin=*/true)});
  store_.OpenGate();
  Await("m", State::READY);
  EXPECT_EQ(store_.loads(), 1);
  EXPECT_TRUE(IsPinned("m"));
}

TEST_F(ConfiguredModelsTest, AChangedEntryBringsBackWhatWasEvicted) {
  Put("m", 4);
  Keep({Preloaded("m")});
  Await("m", State::READY);
  ASSERT_TRUE(cache_->Evict(Named("m"), false).ok());
  Keep({Preloaded("m")});
  EXPECT_EQ(Listed("m").state(), State::EVICTED);
  Keep({Entry("m", true, /*pin=*/true)});
  Await("m", State::READY);
  Keep({Preloaded("m")});
  EXPECT_FALSE(IsPinned("m"));
  EXPECT_TRUE(IsResident("m"));
}

TEST_F(ConfiguredModelsTest, BytesThatTheListNowForbidsLeaveAlthoughLeased) {
  Put("m", 4);
  Lease("m");
  Keep({Entry("m", false, false, {{"", std::string(64, '0')}})});
  EXPECT_EQ(trail_->Await(cache::EventKind::kEvicted).uri, Named("m"));
  EXPECT_FALSE(IsResident("m"));
  EXPECT_NE(Listed("m").last_error(), "");
}

// The store hangs as the daemon starts, and gives what is there when the promises are kept.
TEST_F(ConfiguredModelsTest, WhatComesBackLateIsWhatTheListSays) {
  Put("differs", 4, 1);
  Put("pinned", 5, 2);
  Put("preloaded", 6, 3);
  for (const char* name : {"differs", "pinned", "preloaded"}) {
    Load(name);
  }
  fds_.Hang();
  Next(1000);
  // What is being loaded is not taken back.
  ASSERT_TRUE(cache_->StopLoads(absl::Now()).ok());
  Keep({Entry("differs", false, /*pin=*/true, {{"", std::string(64, '0')}}),
        Entry("pinned", false, /*pin=*/true), Entry("preloaded", true, /*pin=*/true)});
  Await("preloaded", State::RETRYING);
  const absl::Time answered = absl::Now();
  ASSERT_TRUE(fds_.Answer());
  EXPECT_EQ(trail_->Await(cache::EventKind::kEvicted).uri, Named("differs"));
  EXPECT_NE(Listed("differs").last_error(), "");
  EXPECT_FALSE(IsResident("differs"));
  Await("preloaded", State::READY);
  EXPECT_LT(absl::Now() - answered, absl::Seconds(5)) << "at once, not with the next try";
  trail_->Await(cache::EventKind::kPinned, 3);
  EXPECT_TRUE(IsPinned("pinned"));
  EXPECT_TRUE(IsPinned("preloaded"));
  EXPECT_EQ(store_.loads(), 3);
}

TEST_F(ConfiguredModelsTest, EntriesOfOneUriAddUp) {
  Put("m", 4);
  Model pinned = Entry("other-name", false, /*pin=*/true);
  pinned.uri = Named("m");
  Keep({Preloaded("m"), pinned});
  Await("m", State::READY);
  EXPECT_TRUE(IsPinned("m"));
  Keep({Preloaded("m")});
  Await("m", State::READY);
  EXPECT_FALSE(IsPinned("m"));
}

TEST_F(ConfiguredModelsTest, ADrainedNodeHoldsPromisesUp) {
  Put("a", 4);
  ASSERT_TRUE(cache_->StopLoads(absl::Now()).ok());
  Keep({Preloaded("a")});
  const v1::ConfiguredModel held = Await("a", State::RETRYING);
  EXPECT_EQ(held.failures(), 0u) << "it is no failure of the model's";
  EXPECT_NE(held.last_error().find("draining"), std::string::npos) << held.last_error();
  const absl::Time resumed = absl::Now();
  ASSERT_TRUE(cache_->ResumeLoads().ok());
  EXPECT_EQ(Await("a", State::READY).last_error(), "");
  EXPECT_LT(absl::Now() - resumed, absl::Seconds(5)) << "at once, not with the next try";
}

TEST_F(ConfiguredModelsTest, ADrainStopsPreloadsWhichComeBack) {
  Put("a", 4);
  store_.CloseGate();
  Keep({Preloaded("a")});
  store_.AwaitLoads(1);
  EXPECT_EQ(cache_->StopLoads(absl::Now())->stopped, 1u);
  Await("a", State::RETRYING);
  store_.OpenGate();
  ASSERT_TRUE(cache_->ResumeLoads().ok());
  Await("a", State::READY);
}

}  // namespace
}  // namespace weightd
