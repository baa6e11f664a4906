#include "client/cpp/admin_client.h"

#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/fakes/fake_daemon.h"

namespace weightd::client {
namespace {

using fakes::FakeDaemon;
using fakes::SmallModel;

class AdminClientTest : public testing::Test {
 protected:
  AdminClient Connect() {
    auto client = AdminClient::Connect({daemon_.socket_dir()});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  FakeDaemon daemon_;
};

TEST_F(AdminClientTest, ReadsStatus) {
  const auto status = Connect().GetStatus();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->version(), "fake");
}

TEST_F(AdminClientTest, ReadsAllPagesOfModels) {
  for (const char* name : {"a", "b", "c"}) {
    daemon_.Add(name, SmallModel());
  }
  const auto models = Connect().ListModels();
  ASSERT_TRUE(models.ok()) << models.status();
  ASSERT_EQ(models->size(), 3u);
  EXPECT_EQ((*models)[2].model(), "c");
}

TEST_F(AdminClientTest, ReadsAllPagesOfTensorsIfAsked) {
  daemon_.Add("a", SmallModel());
  const AdminClient client = Connect();
  EXPECT_EQ(client.DescribeModel("a", true)->tensors_size(), 2);
  EXPECT_EQ(client.DescribeModel("a", false)->tensors_size(), 0);
}

TEST_F(AdminClientTest, PreloadWatchesUntilTheModelIsThere) {
  daemon_.Set({.progress = std::vector<v1::LoadProgress>(3)});
  int seen = 0;
  const auto model = Connect().Preload("a", {.pin = true}, [&](const auto&) {
    ++seen;
    return true;
  });
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(seen, 3);
  EXPECT_EQ(model->state(), v1::RESIDENT);
  EXPECT_TRUE(model->pinned());
}

TEST_F(AdminClientTest, PreloadCanBeLeftAlone) {
  daemon_.Set({.progress = std::vector<v1::LoadProgress>(1)});
  const auto model = Connect().Preload("a", {}, [](const auto&) { return false; });
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->state(), v1::LOADING);
}

TEST_F(AdminClientTest, PreloadBringsAKeyOrAPassword) {
  const auto watch = [](const auto&) { return true; };
  const std::string key("\0key", 4);
  EXPECT_TRUE(Connect().Preload("a", {.key = key}, watch).ok());
  EXPECT_EQ(daemon_.secret().key(), key);
  EXPECT_TRUE(Connect().Preload("a", {.password = "horse"}, watch).ok());
  EXPECT_EQ(daemon_.secret().password(), "horse");
  EXPECT_TRUE(Connect().Preload("a", {}, watch).ok());
  EXPECT_EQ(daemon_.secret().kind_case(), v1::Secret::KIND_NOT_SET);
}

TEST_F(AdminClientTest, ErrorsKeepReasonAndHint) {
  FakeDaemon::Faults faults;
  faults.error.set_reason(v1::HOST_MEMORY_SHORT);
  faults.error.set_message("no memory");
  faults.error.set_hint("buy some");
  daemon_.Set(faults);
  const absl::Status status = Connect().GetStatus().status();
  EXPECT_EQ(ReasonOf(status), Reason::kHostMemoryShort);
  EXPECT_EQ(HintOf(status), "buy some");
}

TEST_F(AdminClientTest, ACallOfAnotherVersionIsUnsupported) {
  const absl::Status status = Connect().ListLeases("").status();
  EXPECT_EQ(ReasonOf(status), Reason::kUnsupported) << status;
  EXPECT_NE(status.message(), "");
}

TEST_F(AdminClientTest, MissingDaemonIsUnavailable) {
  const absl::Status status =
      AdminClient::Connect({"/nonexistent/weightd", absl::Seconds(5)}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kDaemonUnreachable) << status;
}

TEST_F(AdminClientTest, EventsComeUntilTheDaemonEndsThem) {
  FakeDaemon::Faults script;
  script.events.resize(2);
  script.events[1].set_model("a");
  daemon_.Set(script);
  const AdminClient client = Connect();
  const auto events = client.OpenEvents();
  v1::WatchEventsResponse event;
  ASSERT_TRUE(events->Next(event));
  ASSERT_TRUE(events->Next(event));
  EXPECT_EQ(event.event().model(), "a");
  EXPECT_FALSE(events->Next(event));
  EXPECT_TRUE(events->Finish().ok());
}

TEST_F(AdminClientTest, EventsThatNobodyReadsAreLeftAlone) {
  daemon_.Set({.events = std::vector<v1::Event>(3)});
  const AdminClient client = Connect();
  client.OpenEvents()->Cancel();
}

TEST_F(AdminClientTest, DrainsTheNode) {
  const AdminClient client = Connect();
  const auto drained = client.DrainNode(absl::Seconds(90.5));
  ASSERT_TRUE(drained.ok()) << drained.status();
  EXPECT_EQ(drained->loads_ended(), 90u) << "the fake answers with the seconds that it was given";
  EXPECT_EQ(client.DrainNode(absl::ZeroDuration())->loads_ended(), 0u);
  EXPECT_TRUE(client.ResumeNode()->was_draining());
}

}  // namespace
}  // namespace weightd::client
