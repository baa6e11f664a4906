#include "daemon/service/admin_service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/uri.h"
#include "tests/daemon/service/test_daemon.h"
#include "tests/fakes/fake_fd_store.h"

namespace weightd::service {
namespace {

constexpr const char* kModel = "file:///models/a.safetensors";

class AdminServiceTest : public testing::Test {
 protected:
  AdminServiceTest() {
    daemon_.Put(kModel);
    EXPECT_TRUE(daemon_.names.Set({{"alias", kModel}, {"absent", "file:///models/none"}}).ok());
    daemon_.Listen("default", Access::Everything());
    admin_ = daemon_.Admin();
  }

  v1::ModelSummary Preload(bool pin) {
    grpc::ClientContext context;
    v1::PreloadRequest request;
    request.set_model("alias");
    request.set_pin(pin);
    const auto stream = admin_->Preload(&context, request);
    v1::PreloadResponse response;
    while (stream->Read(&response)) {
    }
    EXPECT_TRUE(stream->Finish().ok());
    return response.model();
  }

  TestDaemon daemon_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

TEST_F(AdminServiceTest, PreloadsPinsAndEvicts) {
  const v1::ModelSummary model = Preload(/*pin=*/true);
  EXPECT_EQ(model.state(), v1::RESIDENT);
  EXPECT_EQ(model.aliases(0), "alias");
  EXPECT_TRUE(model.pinned());

  v1::EvictRequest evict;
  evict.set_model(kModel);
  v1::EvictResponse evicted;
  {
    grpc::ClientContext context;
    EXPECT_EQ(admin_->Evict(&context, evict, &evicted).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_EQ(DetailOf(context).reason(), v1::MODEL_PINNED);
  }
  {
    grpc::ClientContext context;
    v1::UnpinRequest unpin;
    unpin.set_model(kModel);
    v1::UnpinResponse unpinned;
    EXPECT_TRUE(admin_->Unpin(&context, unpin, &unpinned).ok());
    EXPECT_FALSE(unpinned.model().pinned());
  }
  grpc::ClientContext context;
  EXPECT_TRUE(admin_->Evict(&context, evict, &evicted).ok());
  EXPECT_GT(evicted.freed_bytes(), 0);
}

TEST_F(AdminServiceTest, ListsConfiguredModelsThatAreAbsent) {
  Preload(/*pin=*/false);
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  ASSERT_TRUE(admin_->ListModels(&context, {}, &response).ok());
  ASSERT_EQ(response.models_size(), 2);
  EXPECT_EQ(response.models(0).state(), v1::RESIDENT);
  EXPECT_EQ(response.models(1).model(), "file:///models/none");
  EXPECT_EQ(response.models(1).state(), v1::ABSENT);
}

TEST_F(AdminServiceTest, DescribesConfiguredModelsThatAreAbsent) {
  grpc::ClientContext context;
  v1::DescribeModelRequest request;
  request.set_model("absent");
  v1::DescribeModelResponse response;
  ASSERT_TRUE(admin_->DescribeModel(&context, request, &response).ok());
  EXPECT_EQ(response.model().state(), v1::ABSENT);
}

TEST_F(AdminServiceTest, PreloadGoesOnWhenTheCallerLeaves) {
  daemon_.loader.CloseGate();
  {
    grpc::ClientContext context;
    v1::PreloadRequest request;
    request.set_model(kModel);
    const auto stream = admin_->Preload(&context, request);
    daemon_.loader.AwaitLoads(1);
    context.TryCancel();
    EXPECT_FALSE(stream->Finish().ok());
  }
  daemon_.loader.OpenGate();
  daemon_.loader.AwaitIdle();
  EXPECT_EQ(Preload(/*pin=*/false).state(), v1::RESIDENT);
  EXPECT_EQ(daemon_.loader.loads(), 1);
}

TEST_F(AdminServiceTest, AKeyThatComesWithThePreloadOpensTheModel) {
  const std::string right(32, 'k');
  daemon_.loader.Encrypt(*Uri::Parse(kModel), right);
  const auto preload = [this](auto give) {
    grpc::ClientContext context;
    v1::PreloadRequest request;
    request.set_model(kModel);
    give(*request.mutable_secret());
    const auto stream = admin_->Preload(&context, request);
    v1::PreloadResponse response;
    while (stream->Read(&response)) {
    }
    return stream->Finish().ok() ? v1::ERROR_REASON_UNSPECIFIED : DetailOf(context).reason();
  };
  EXPECT_EQ(preload([](v1::Secret& secret) { secret.set_key(std::string(32, 'x')); }),
            v1::KEY_REFUSED);
  EXPECT_EQ(preload([&](v1::Secret& secret) { secret.set_key(right + "k"); }),
            v1::INVALID_ARGUMENT);
  EXPECT_EQ(daemon_.loader.loads(), 1);
  EXPECT_EQ(preload([&](v1::Secret& secret) { secret.set_key(right); }),
            v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(daemon_.loader.last_key(), right);
}

TEST_F(AdminServiceTest, ShowsEventsAsTheyHappen) {
  grpc::ClientContext watching;
  const auto events = admin_->WatchEvents(&watching, {});
  events->WaitForInitialMetadata();
  Preload(/*pin=*/false);
  v1::WatchEventsResponse event;
  ASSERT_TRUE(events->Read(&event));
  EXPECT_EQ(event.event().kind(), v1::Event::LOAD_STARTED);
  ASSERT_TRUE(events->Read(&event));
  EXPECT_EQ(event.event().kind(), v1::Event::LOAD_FINISHED);
  EXPECT_EQ(event.event().model(), kModel);
  EXPECT_EQ(event.lost(), 0);
  watching.TryCancel();
  EXPECT_EQ(events->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(AdminServiceTest, ShowsStatusAndLeases) {
  const TestSession session(daemon_.FolderOf("default"));
  const auto weights = daemon_.Weights("default");
  ASSERT_NE(Acquire(*weights, session.token(), "alias").lease, 0);
  {
    grpc::ClientContext context;
    v1::GetStatusResponse status;
    ASSERT_TRUE(admin_->GetStatus(&context, {}, &status).ok());
    EXPECT_EQ(status.sessions(), 1);
    EXPECT_EQ(status.leases(), 1);
    EXPECT_EQ(status.listeners(0).leases(), 1);
    EXPECT_GT(status.host().resident(), 0);
  }
  grpc::ClientContext context;
  v1::ListLeasesResponse leases;
  ASSERT_TRUE(admin_->ListLeases(&context, {}, &leases).ok());
  ASSERT_EQ(leases.leases_size(), 1);
  EXPECT_EQ(leases.leases(0).model(), kModel);
  EXPECT_EQ(leases.leases(0).listener(), "default");
  EXPECT_EQ(leases.leases(0).uid(), getuid());
}

TEST_F(AdminServiceTest, DrainsAndResumesTheNode) {
  daemon_.loader.CloseGate();
  grpc::ClientContext preloading;
  v1::PreloadRequest preload;
  preload.set_model(kModel);
  const auto stream = admin_->Preload(&preloading, preload);
  daemon_.loader.AwaitLoads(1);
  v1::DrainNodeResponse drained;
  {
    grpc::ClientContext context;
    v1::DrainNodeRequest request;
    request.mutable_wait()->set_nanos(1000);
    ASSERT_TRUE(admin_->DrainNode(&context, request, &drained).ok());
  }
  EXPECT_EQ(drained.loads_ended(), 0u);
  EXPECT_EQ(drained.loads_stopped(), 1u);
  EXPECT_FALSE(drained.has_keeper());
  EXPECT_FALSE(drained.handed_over());
  v1::PreloadResponse progress;
  while (stream->Read(&progress)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailOf(preloading).reason(), v1::SHUTTING_DOWN);
  const auto draining = [this] {
    grpc::ClientContext context;
    v1::GetStatusResponse status;
    EXPECT_TRUE(admin_->GetStatus(&context, {}, &status).ok());
    return status.draining();
  };
  EXPECT_TRUE(draining());
  {
    grpc::ClientContext context;
    v1::ResumeNodeResponse resumed;
    ASSERT_TRUE(admin_->ResumeNode(&context, {}, &resumed).ok());
    EXPECT_TRUE(resumed.was_draining());
  }
  EXPECT_FALSE(draining());
  daemon_.loader.OpenGate();
  EXPECT_EQ(Preload(/*pin=*/false).state(), v1::RESIDENT);
}

TEST_F(AdminServiceTest, SaysThatADaemonThatEndsIsNotResumed) {
  daemon_.cache->StopLoadsForGood();
  grpc::ClientContext context;
  v1::ResumeNodeResponse resumed;
  EXPECT_EQ(admin_->ResumeNode(&context, {}, &resumed).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailOf(context).reason(), v1::SHUTTING_DOWN);
  EXPECT_NE(DetailOf(context).message().find("daemon is ending"), std::string::npos);
}

TEST(AdminServiceKeeperTest, WhatIsLostIsNotHandedOver) {
  for (const bool whole : {true, false}) {
    fakes::FakeFdStore store;
    if (!whole) {
      store.Refuse(".weights");
    }
    TestDaemon daemon(/*wrap=*/nullptr, &store);
    daemon.Put(kModel);
    const auto admin = daemon.Admin();
    grpc::ClientContext preloading;
    v1::PreloadRequest preload;
    preload.set_model(kModel);
    const auto stream = admin->Preload(&preloading, preload);
    v1::PreloadResponse progress;
    while (stream->Read(&progress)) {
    }
    ASSERT_TRUE(stream->Finish().ok());
    grpc::ClientContext context;
    v1::DrainNodeResponse drained;
    ASSERT_TRUE(admin->DrainNode(&context, {}, &drained).ok());
    EXPECT_TRUE(drained.keeper().reachable());
    EXPECT_EQ(drained.lost_models(), whole ? 0u : 1u);
    EXPECT_EQ(drained.handed_over(), whole);
  }
}

}  // namespace
}  // namespace weightd::service
