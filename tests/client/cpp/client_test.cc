#include "client/cpp/client.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "common/status.h"
#include "tests/fakes/fake_daemon.h"

namespace weightd::client {
namespace {

using fakes::FakeDaemon;
using fakes::SmallModel;

class ClientTest : public testing::Test {
 protected:
  ClientTest() { daemon_.Add("small", SmallModel()); }

  Client Connect() {
    auto client = Client::Connect({daemon_.socket_dir()});
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }

  FakeDaemon daemon_;
};

TEST_F(ClientTest, AttachedModelGivesItsTensors) {
  const Client client = Connect();
  const auto model = client.Attach("small");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->name(), "small");
  EXPECT_EQ(model->revision(), std::string(64, 'a'));
  EXPECT_EQ(model->bytes().size(), 4096u);
  const auto a = model->tensor("a");
  ASSERT_TRUE(a.ok()) << a.status();
  const auto values = a->As<float>();
  ASSERT_TRUE(values.ok()) << values.status();
  EXPECT_EQ(std::vector<float>(values->begin(), values->end()), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(model->tensors()->size(), 2u);
  EXPECT_EQ(model->metadata()->at("format"), "pt");
  EXPECT_EQ(model->tensor("none").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ClientTest, TiedWeightsHaveEachOfTheirNames) {
  fakes::FakeModel tied = SmallModel();
  (*tied.index.mutable_metadata())["also"] = "a";
  daemon_.Add("tied", tied);
  const auto model = Connect().Attach("tied");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->tensors()->size(), 3u);
  const auto also = model->tensor("also");
  ASSERT_TRUE(also.ok()) << also.status();
  EXPECT_EQ(also->bytes().data(), model->tensor("a")->bytes().data());
}

TEST_F(ClientTest, ModelsGiveWhatLiesBesideTheirWeights) {
  fakes::FakeModel folder = SmallModel();
  folder.small_files = "{}text";
  fakes::AddSmallFile(folder, "1_Pooling/config.json", 0, 2);
  fakes::AddSmallFile(folder, "empty.txt", 6, 0);
  fakes::AddSmallFile(folder, "vocab.txt", 2, 4);
  fakes::AddSmallFile(folder, "tokenizer.json", 0, 0);
  folder.index.mutable_small_files(3)->set_left_out("it is too large");
  daemon_.Add("folder", folder);
  const Client client = Connect();
  absl::StatusOr<Model> model = client.Attach("folder");
  ASSERT_TRUE(model.ok()) << model.status();
  const auto files = model->files();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(*files,
            (std::map<std::string, absl::string_view>{
                {"1_Pooling/config.json", "{}"}, {"empty.txt", ""}, {"vocab.txt", "text"}}));
  EXPECT_EQ(model->file("vocab.txt").value_or("none"), "text");
  EXPECT_EQ(model->file("empty.txt").value_or("none"), "");
  const absl::Status left_out = model->file("tokenizer.json").status();
  EXPECT_EQ(ReasonOf(left_out), Reason::kFileNotFound);
  EXPECT_NE(left_out.message().find("it is too large"), absl::string_view::npos) << left_out;
  EXPECT_EQ(ReasonOf(model->file("config.json").status()), Reason::kFileNotFound);
  EXPECT_FALSE(HintOf(model->file("config.json").status()).empty());

  const Model copy = *model;
  model = absl::CancelledError();
  EXPECT_EQ(copy.file("vocab.txt").value_or("none"), "text") << "while a copy lives";
}

TEST_F(ClientTest, ModelsMayHaveNothingBesideTheirWeights) {
  const Client client = Connect();
  const auto model = client.Attach("small");
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->files()->empty());
  EXPECT_EQ(model->file("config.json").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ClientTest, MapsAtAHugePageBoundary) {
  const auto model = Connect().Attach("small");
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(model->bytes().data()) % (2 << 20), 0u);
}

TEST_F(ClientTest, StoresArePrivate) {
  const Client client = Connect();
  const auto mine = client.Attach("small");
  const auto other = client.Attach("small");
  ASSERT_EQ(mine->access(), Access::kPrivateWritable);
  const auto bytes = mine->tensor("a")->mutable_bytes();
  ASSERT_TRUE(bytes.ok());
  (*bytes)[0] = std::byte{0xff};
  EXPECT_NE(mine->bytes()[0], other->bytes()[0]);
}

TEST_F(ClientTest, SharedMappingsAreReadOnly) {
  AttachOptions options;
  options.access = Access::kSharedReadOnly;
  const auto model = Connect().Attach("small", options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->access(), Access::kSharedReadOnly);
  EXPECT_FALSE(model->tensor("a")->mutable_bytes().ok());
}

TEST_F(ClientTest, LeaseEndsWithTheLastCopy) {
  const Client client = Connect();
  {
    auto model = client.Attach("small");
    ASSERT_TRUE(model.ok());
    const Model copy = *model;
    model = absl::CancelledError();
    EXPECT_EQ(daemon_.leases(), 1u);
    EXPECT_EQ(copy.bytes().size(), 4096u);
  }
  EXPECT_EQ(daemon_.leases(), 0u);
}

TEST_F(ClientTest, SessionEndsWithTheLastModel) {
  absl::StatusOr<Model> model = absl::CancelledError();
  {
    const Client client = Connect();
    model = client.Attach("small");
  }
  EXPECT_EQ(daemon_.sessions(), 1u);
  EXPECT_TRUE(model->tensor("a").ok());
  model = absl::CancelledError();
  EXPECT_TRUE(daemon_.AwaitSessions(0));
}

TEST_F(ClientTest, ReportsProgress) {
  FakeDaemon::Faults script;
  script.progress.resize(2);
  script.progress[1].set_phase(v1::TRANSFERRING);
  script.progress[1].set_bytes_done(7);
  script.progress[1].set_bytes_total(9);
  daemon_.Set(script);
  std::vector<LoadProgress> seen;
  AttachOptions options;
  options.progress = [&](const LoadProgress& progress) { seen.push_back(progress); };
  ASSERT_TRUE(Connect().Attach("small", options).ok());
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[1].phase, LoadPhase::kTransferring);
  EXPECT_EQ(seen[1].bytes_done, 7u);
  EXPECT_EQ(seen[1].bytes_total, 9u);
}

TEST_F(ClientTest, ThreadsAttachSideBySide) {
  const Client client = Connect();
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 10; ++round) {
        const auto model = client.Attach("small");
        ASSERT_TRUE(model.ok()) << model.status();
        ASSERT_TRUE(model->tensor("b").ok());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(daemon_.leases(), 0u);
}

TEST_F(ClientTest, ErrorsKeepReasonAndHint) {
  FakeDaemon::Faults faults;
  faults.error.set_reason(v1::BUDGET_EXCEEDED);
  faults.error.set_message("needs 9, has 3");
  faults.error.set_hint("evict something");
  daemon_.Set(faults);
  const absl::Status status = Connect().Attach("small").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), Reason::kBudgetExceeded);
  EXPECT_EQ(HintOf(status), "evict something");
  EXPECT_NE(ReasonOf(status), Reason::kDaemonUnreachable);
}

TEST_F(ClientTest, ALeaseThatIsEvictedBeforeItIsClaimedIsTakenOnceMore) {
  int evictions = 1;
  int grants = 0;
  daemon_.Set({.tamper_grant = [&](v1::Grant&) {
    ++grants;
    if (evictions-- > 0) {
      daemon_.EndLeases();
    }
  }});
  {
    const auto model = Connect().Attach("small");
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(grants, 2);
    EXPECT_EQ(daemon_.leases(), 1u);
  }
  evictions = 2;
  EXPECT_EQ(ReasonOf(Connect().Attach("small").status()), Reason::kLeaseUnknown);
  EXPECT_EQ(grants, 4);
}

TEST_F(ClientTest, UnknownModelIsNotFound) {
  EXPECT_EQ(ReasonOf(Connect().Attach("none").status()), Reason::kModelNotFound);
}

TEST_F(ClientTest, EnvironmentNamesTheFolder) {
  ASSERT_EQ(setenv("WEIGHTD_DIR", daemon_.socket_dir().c_str(), 1), 0);
  EXPECT_TRUE(Client::Connect().ok());
  ASSERT_EQ(unsetenv("WEIGHTD_DIR"), 0);
}

TEST_F(ClientTest, MissingDaemonIsUnavailableAndNamesItsSocket) {
  const absl::Status status = Client::Connect({"/nonexistent/weightd"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(status), Reason::kDaemonUnreachable);
  EXPECT_NE(HintOf(status).find("/nonexistent/weightd/handles.sock"), std::string::npos);
}

TEST_F(ClientTest, TooLongPathsAreRefused) {
  EXPECT_EQ(ReasonOf(Client::Connect({std::string(200, 'x')}).status()), Reason::kInvalidArgument);
}

TEST(DaemonEndTest, MappedModelsOutliveTheDaemon) {
  auto daemon = std::make_unique<FakeDaemon>();
  daemon->Add("small", SmallModel());
  const auto client = Client::Connect({daemon->socket_dir()});
  const auto model = client->Attach("small");
  ASSERT_TRUE(model.ok());
  daemon.reset();
  EXPECT_EQ((*model->tensor("b")->As<float>())[0], 5);
  AttachOptions options;
  options.timeout = absl::Milliseconds(200);
  const absl::Status status = client->Attach("small", options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(ReasonOf(status), Reason::kDaemonUnreachable);
}

}  // namespace
}  // namespace weightd::client
