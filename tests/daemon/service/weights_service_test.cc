#include "daemon/service/weights_service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/daemon/service/test_daemon.h"

namespace weightd::service {
namespace {

constexpr const char* kPublic = "file:///public/a.safetensors";
constexpr const char* kSecret = "file:///secret/b.safetensors";

class WeightsServiceTest : public testing::Test {
 protected:
  WeightsServiceTest() {
    daemon_.Put(kPublic);
    daemon_.Put(kSecret);
    daemon_.Listen("default", Access::Everything());
    daemon_.Listen("guests", *Access::Limited({.attach = {"file:///public/**"}}));
  }

  // A session and a connection, as a client has them.
  struct Client {
    TestSession session;
    std::unique_ptr<v1::Weights::Stub> weights;
    Acquired Acquire(const std::string& model, bool resident_only = false) {
      return service::Acquire(*weights, session.token(), model, resident_only);
    }
    grpc::Status Release(uint64_t lease, v1::ErrorDetail* detail = nullptr) {
      grpc::ClientContext context;
      context.AddMetadata("weightd-session", session.token());
      v1::ReleaseRequest request;
      request.set_lease_id(lease);
      v1::ReleaseResponse response;
      grpc::Status status = weights->Release(&context, request, &response);
      if (detail != nullptr) {
        *detail = DetailOf(context);
      }
      return status;
    }
    v1::ListModelsResponse List() {
      grpc::ClientContext context;
      context.AddMetadata("weightd-session", session.token());
      v1::ListModelsResponse response;
      EXPECT_TRUE(weights->ListModels(&context, {}, &response).ok());
      return response;
    }
  };
  Client Connect(const std::string& listener) {
    return {TestSession(daemon_.FolderOf(listener)), daemon_.Weights(listener)};
  }

  TestDaemon daemon_;
};

TEST_F(WeightsServiceTest, GrantsALeaseAndTakesItBack) {
  Client client = Connect("default");
  const Acquired acquired = client.Acquire(kPublic);
  ASSERT_TRUE(acquired.status.ok()) << acquired.status.error_message();
  EXPECT_EQ(daemon_.cache->Leases().size(), 1);
  EXPECT_TRUE(client.Release(acquired.lease).ok());
  EXPECT_TRUE(daemon_.cache->Leases().empty());
  v1::ErrorDetail detail;
  EXPECT_EQ(client.Release(acquired.lease, &detail).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(detail.reason(), v1::LEASE_UNKNOWN);
}

TEST_F(WeightsServiceTest, RefusesWrongTokens) {
  Client guest = Connect("guests");
  Client owner = Connect("default");
  const std::string old_token = Connect("default").session.token();
  for (const std::string& token :
       {std::string(), std::string(32, '0'), guest.session.token(), old_token}) {
    const Acquired acquired = service::Acquire(*owner.weights, token, kPublic);
    // The old session's end may be noticed after its token was sent, but not its lease kept.
    if (token != old_token) {
      EXPECT_EQ(acquired.detail.reason(), v1::SESSION_INVALID);
      EXPECT_EQ(acquired.status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
    }
  }
  EXPECT_TRUE(daemon_.AwaitNoLeases());
}

TEST_F(WeightsServiceTest, ForbiddenAndUnknownModelsAreTheSame) {
  Client owner = Connect("default");
  ASSERT_TRUE(owner.Acquire(kSecret).status.ok());
  Client guest = Connect("guests");
  const Acquired forbidden = guest.Acquire(kSecret);
  const Acquired unknown = guest.Acquire("file:///secret/none.safetensors");
  EXPECT_EQ(forbidden.detail.reason(), v1::NOT_ALLOWED);
  EXPECT_EQ(forbidden.status.error_message(), unknown.status.error_message());
  EXPECT_EQ(forbidden.status.error_code(), unknown.status.error_code());
  EXPECT_EQ(guest.List().models_size(), 0);
  EXPECT_EQ(owner.List().models_size(), 1);
}

TEST_F(WeightsServiceTest, DeniedAndUnknownModelsAreTheSame) {
  ASSERT_TRUE(daemon_.names.Set({{"hidden", std::string(kSecret)}}).ok());
  daemon_.Listen("most", *Access::EverythingBut({"hidden"}));
  Client client = Connect("most");
  const Acquired unknown = client.Acquire("nobody-knows");
  EXPECT_EQ(unknown.detail.reason(), v1::NOT_ALLOWED);
  for (const std::string& name :
       {std::string("hidden"), std::string(kSecret), absl::StrCat(kSecret, "/part")}) {
    const Acquired denied = client.Acquire(name);
    EXPECT_EQ(denied.detail.reason(), unknown.detail.reason()) << name;
    EXPECT_EQ(denied.status.error_message(), unknown.status.error_message()) << name;
    EXPECT_EQ(denied.detail.hint(), unknown.detail.hint()) << name;
  }
  EXPECT_NE(client.Acquire(kPublic).lease, 0u);
  EXPECT_NE(Connect("default").Acquire("hidden").lease, 0u);
  EXPECT_EQ(client.List().models_size(), 1);
}

TEST_F(WeightsServiceTest, CallsBeyondTheRateAreSentAway) {
  daemon_.Listen("slow", Access::Everything(), {.calls_per_second = 1});
  Client client = Connect("slow");
  const uint64_t lease = client.Acquire(kPublic).lease;
  EXPECT_NE(lease, 0u);
  Acquired refused;
  for (int i = 0; i < 10 && refused.detail.reason() != v1::TOO_MANY_REQUESTS; ++i) {
    refused = client.Acquire(kPublic);
  }
  EXPECT_EQ(refused.detail.reason(), v1::TOO_MANY_REQUESTS);
  EXPECT_TRUE(absl::StrContains(refused.detail.hint(), "try again in ")) << refused.detail.hint();
  EXPECT_TRUE(client.Release(lease).ok()) << "what is given back is taken";
  EXPECT_NE(Connect("default").Acquire(kPublic).lease, 0u);
}

TEST_F(WeightsServiceTest, ConnectionsBeyondTheRateAreClosed) {
  daemon_.Listen("slow", Access::Everything(), {.connections_per_second = 1});
  int greeted = 0;
  for (int i = 0; i < 20; ++i) {
    greeted += TestSession(daemon_.FolderOf("slow")).greeting().has_hello() ? 1 : 0;
  }
  EXPECT_GE(greeted, 2);
  EXPECT_LT(greeted, 20);
  EXPECT_TRUE(TestSession(daemon_.FolderOf("default")).greeting().has_hello());
}

TEST_F(WeightsServiceTest, AttachOnlyListenerLoadsNothing) {
  Client guest = Connect("guests");
  EXPECT_EQ(guest.Acquire(kPublic).detail.reason(), v1::MODEL_NOT_RESIDENT);
  Client owner = Connect("default");
  ASSERT_TRUE(owner.Acquire(kPublic).status.ok());
  EXPECT_TRUE(guest.Acquire(kPublic).status.ok());
  EXPECT_EQ(guest.List().models_size(), 1);
}

TEST_F(WeightsServiceTest, LeaseOfAnotherSessionIsUnknown) {
  Client owner = Connect("default");
  Client other = Connect("default");
  const uint64_t lease = owner.Acquire(kPublic).lease;
  v1::ErrorDetail detail;
  EXPECT_FALSE(other.Release(lease, &detail).ok());
  EXPECT_EQ(detail.reason(), v1::LEASE_UNKNOWN);
  EXPECT_EQ(daemon_.cache->Leases().size(), 1);
}

TEST_F(WeightsServiceTest, CancelledAcquireCancelsTheLoad) {
  daemon_.loader.CloseGate();
  Client client = Connect("default");
  grpc::ClientContext context;
  context.AddMetadata("weightd-session", client.session.token());
  v1::AcquireRequest request;
  request.set_model(kPublic);
  const auto stream = client.weights->Acquire(&context, request);
  daemon_.loader.AwaitLoads(1);
  context.TryCancel();
  v1::AcquireResponse response;
  while (stream->Read(&response)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  daemon_.loader.AwaitIdle();
  EXPECT_TRUE(daemon_.cache->Leases().empty());
}

TEST_F(WeightsServiceTest, SessionThatEndsWhileItWaitsLeavesNoLease) {
  daemon_.loader.CloseGate();
  Client client = Connect("default");
  const std::string token = client.session.token();
  Acquired acquired;
  std::thread waiter([&] { acquired = service::Acquire(*client.weights, token, kPublic); });
  daemon_.loader.AwaitLoads(1);
  client.session.End();
  while (daemon_.listener().sessions() > 0) {
    std::this_thread::yield();
  }
  daemon_.loader.OpenGate();
  waiter.join();
  EXPECT_EQ(acquired.detail.reason(), v1::SESSION_INVALID);
  EXPECT_TRUE(daemon_.cache->Leases().empty());
}

TEST_F(WeightsServiceTest, TwoHundredAcquiresShareOneLoad) {
  daemon_.loader.CloseGate();
  Client client = Connect("default");
  std::vector<std::thread> threads;
  std::atomic<int> granted = 0;
  for (int i = 0; i < 200; ++i) {
    threads.emplace_back([&] { granted += client.Acquire(kPublic).lease != 0 ? 1 : 0; });
  }
  daemon_.loader.AwaitLoads(1);
  daemon_.loader.OpenGate();
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(granted, 200);
  EXPECT_EQ(daemon_.loader.loads(), 1);
  EXPECT_EQ(daemon_.cache->Leases().size(), 200);
}

TEST_F(WeightsServiceTest, RefusesMalformedRequests) {
  Client client = Connect("default");
  EXPECT_EQ(client.Acquire("").detail.reason(), v1::INVALID_URI);
  EXPECT_EQ(client.Acquire("file:///a/../b").detail.reason(), v1::INVALID_URI);
  EXPECT_EQ(client.Acquire("file:///nothing/there").detail.reason(), v1::MODEL_NOT_FOUND);
}

}  // namespace
}  // namespace weightd::service
