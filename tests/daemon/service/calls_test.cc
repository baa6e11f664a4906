#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "daemon/service/call_record.h"
#include "tests/daemon/service/test_daemon.h"

namespace weightd::service {
namespace {

constexpr const char* kModel = "file:///models/a.safetensors";

// Keeps what it is told.
class Notebook final : public CallObserver {
 public:
  void Ended(const CallRecord& call) override {
    absl::MutexLock lock(&mutex_);
    calls_.push_back(call);
  }

  // The calls so far, once there are `count` of this method; fewer after 5 s.
  std::vector<CallRecord> Await(absl::string_view method, size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return Of(method).size() >= count;
    };
    mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(5));
    return Of(method);
  }

 private:
  std::vector<CallRecord> Of(absl::string_view method) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<CallRecord> calls;
    for (const CallRecord& call : calls_) {
      if (call.method == method) {
        calls.push_back(call);
      }
    }
    return calls;
  }

  absl::Mutex mutex_;
  std::vector<CallRecord> calls_ ABSL_GUARDED_BY(mutex_);
};

class CallsTest : public testing::Test {
 protected:
  CallsTest() {
    daemon_.observers.Add(&notebook_);
    daemon_.Put(kModel);
    daemon_.Listen("default", Access::Everything(), {.max_sessions = 2, .max_connections = 2});
  }

  CallRecord Only(absl::string_view method) {
    const std::vector<CallRecord> calls = notebook_.Await(method, 1);
    EXPECT_EQ(calls.size(), 1) << method;
    return calls.empty() ? CallRecord{} : calls.front();
  }

  Notebook notebook_;
  TestDaemon daemon_;
};

TEST_F(CallsTest, ReportsWhoAttachedToWhatOnce) {
  const TestSession session(daemon_.FolderOf("default"));
  const auto weights = daemon_.Weights("default");
  const Acquired acquired =
      Acquire(*weights, session.token(), "file://user:secret@/models/a.safetensors?secret");
  EXPECT_NE(acquired.status.ok(), acquired.lease == 0);
  const CallRecord failed = Only("Acquire");
  EXPECT_EQ(failed.model.find("secret"), std::string::npos) << failed.model;

  const uint64_t lease = Acquire(*weights, session.token(), kModel).lease;
  session.SendClaim(lease);
  session.Receive();
  const std::vector<CallRecord> acquires = notebook_.Await("Acquire", 2);
  ASSERT_EQ(acquires.size(), 2);
  EXPECT_EQ(acquires[1].caller.listener, "default");
  EXPECT_EQ(acquires[1].caller.uid, getuid());
  EXPECT_EQ(acquires[1].caller.gid, getgid());
  EXPECT_EQ(acquires[1].model, kModel);
  EXPECT_TRUE(acquires[1].outcome.ok()) << acquires[1].outcome;
  EXPECT_GT(acquires[1].took, absl::ZeroDuration());
  EXPECT_NE(acquires[0].request_id, acquires[1].request_id);
  EXPECT_EQ(acquires[1].request_id.size(), 16);

  const CallRecord claim = Only("Claim");
  EXPECT_TRUE(claim.outcome.ok());
  EXPECT_EQ(claim.caller.uid, getuid());
}

TEST_F(CallsTest, AFailedCallTellsItsCallerTheIdThatIsReported) {
  grpc::ClientContext context;
  v1::EvictRequest request;
  request.set_model(kModel);
  v1::EvictResponse response;
  EXPECT_FALSE(daemon_.Admin()->Evict(&context, request, &response).ok());
  const CallRecord evict = Only("Evict");
  EXPECT_EQ(evict.caller.listener, "admin");
  EXPECT_FALSE(evict.outcome.ok());
  const auto& trailing = context.GetServerTrailingMetadata();
  const auto sent = trailing.find("weightd-request-id");
  ASSERT_NE(sent, trailing.end());
  EXPECT_EQ(std::string(sent->second.data(), sent->second.size()), evict.request_id);
}

TEST_F(CallsTest, StreamsAreReportedWhenTheyEnd) {
  daemon_.loader.CloseGate();
  grpc::ClientContext watching;
  const auto admin = daemon_.Admin();
  const auto events = admin->WatchEvents(&watching, {});
  events->WaitForInitialMetadata();
  {
    grpc::ClientContext context;
    v1::PreloadRequest request;
    request.set_model(kModel);
    const auto stream = admin->Preload(&context, request);
    daemon_.loader.AwaitLoads(1);
    context.TryCancel();
    EXPECT_FALSE(stream->Finish().ok());
  }
  EXPECT_EQ(ReasonOf(Only("Preload").outcome), Reason::kCancelled);
  daemon_.loader.OpenGate();
  watching.TryCancel();
  EXPECT_FALSE(events->Finish().ok());
  EXPECT_EQ(ReasonOf(Only("WatchEvents").outcome), Reason::kCancelled);
}

TEST_F(CallsTest, CallsWithoutASessionAreReportedToo) {
  const auto weights = daemon_.Weights("default");
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  EXPECT_FALSE(weights->ListModels(&context, {}, &response).ok());
  EXPECT_EQ(ReasonOf(Only("ListModels").outcome), Reason::kSessionInvalid);
}

TEST_F(CallsTest, RefusedConnectionsAreReported) {
  const TestSession first(daemon_.FolderOf("default"));
  const TestSession second(daemon_.FolderOf("default"));
  const TestSession refused(daemon_.FolderOf("default"));
  const CallRecord session = Only("Connect");
  EXPECT_EQ(session.caller.uid, getuid());
  EXPECT_EQ(ReasonOf(session.outcome), Reason::kTooManyRequests);

  std::vector<std::unique_ptr<v1::Weights::Stub>> stubs;
  for (int i = 0; i < 3; ++i) {
    stubs.push_back(daemon_.Weights("default"));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    v1::ListModelsResponse response;
    stubs.back()->ListModels(&context, {}, &response);
  }
  EXPECT_GE(notebook_.Await("Connect", 2).size(), 2);
}

TEST_F(CallsTest, IdsAreNeverGivenTwice) {
  const auto admin = daemon_.Admin();
  for (int i = 0; i < 100; ++i) {
    grpc::ClientContext context;
    v1::GetStatusResponse response;
    EXPECT_TRUE(admin->GetStatus(&context, {}, &response).ok());
  }
  std::set<std::string> ids;
  for (const CallRecord& call : notebook_.Await("GetStatus", 100)) {
    ids.insert(call.request_id);
  }
  EXPECT_EQ(ids.size(), 100);
}

}  // namespace
}  // namespace weightd::service
