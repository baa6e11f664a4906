// The calls of clients and operators that are about GPUs.

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/status.h"
#include "common/uri.h"
#include "daemon/service/admin_service.h"
#include "daemon/service/blocking_calls.h"
#include "tests/daemon/service/gpu_cache.h"
#include "tests/daemon/service/test_daemon.h"

namespace weightd::service {
namespace {

constexpr const char* kModel = "file:///models/a.safetensors";
constexpr uint64_t kGiB = uint64_t{1} << 30;

class GpusTest : public testing::Test {
 protected:
  GpusTest()
      : daemon_([](std::unique_ptr<cache::Cache> host) {
          return std::make_unique<GpuCache>(std::move(host));
        }),
        gpus_(static_cast<GpuCache&>(*daemon_.cache)) {
    daemon_.Put(kModel);
    daemon_.Listen("default", Access::Everything());
    daemon_.Listen("guests", *Access::Limited({.attach = {"**"}}));
    admin_ = daemon_.Admin();
  }

  struct Answer {
    v1::Grant grant;
    v1::ErrorReason reason = v1::ERROR_REASON_UNSPECIFIED;
  };
  Answer Acquire(const v1::DeviceRequest& device, const std::string& listener = "default",
                 bool resident_only = false) {
    const TestSession session(daemon_.FolderOf(listener));
    const auto weights = daemon_.Weights(listener);
    grpc::ClientContext context;
    context.AddMetadata("weightd-session", session.token());
    v1::AcquireRequest request;
    request.set_model(kModel);
    request.set_resident_only(resident_only);
    *request.mutable_device() = device;
    const auto stream = weights->Acquire(&context, request);
    v1::AcquireResponse response;
    while (stream->Read(&response)) {
    }
    const bool ok = stream->Finish().ok();
    return {response.grant(), ok ? v1::ERROR_REASON_UNSPECIFIED : DetailOf(context).reason()};
  }

  // What came of a call: its reason, or none if all went well.
  v1::ErrorReason Drain(const std::string& gpu, bool force, v1::DrainGpuResponse* response) {
    grpc::ClientContext context;
    v1::DrainGpuRequest request;
    request.set_gpu(gpu);
    request.set_force(force);
    return admin_->DrainGpu(&context, request, response).ok() ? v1::ERROR_REASON_UNSPECIFIED
                                                              : DetailOf(context).reason();
  }
  v1::ErrorReason Preload(const std::vector<std::string>& gpus) {
    grpc::ClientContext context;
    v1::PreloadRequest request;
    request.set_model(kModel);
    request.mutable_gpus()->Add(gpus.begin(), gpus.end());
    const auto stream = admin_->Preload(&context, request);
    v1::PreloadResponse response;
    while (stream->Read(&response)) {
    }
    return stream->Finish().ok() ? v1::ERROR_REASON_UNSPECIFIED : DetailOf(context).reason();
  }

  TestDaemon daemon_;
  GpuCache& gpus_;
  std::unique_ptr<v1::Admin::Stub> admin_;
};

v1::DeviceRequest Request(std::string uuid, v1::DeviceRequest::Mode mode, bool legacy = false) {
  v1::DeviceRequest request;
  request.set_gpu_uuid(std::move(uuid));
  request.set_mode(mode);
  request.set_legacy(legacy);
  return request;
}

TEST_F(GpusTest, GrantsADevice) {
  const std::string uuid = GpuCache::Gpu(1).ToBytes();
  const Answer shared = Acquire(Request(uuid, v1::DeviceRequest::SHARED));
  ASSERT_EQ(shared.reason, v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(shared.grant.device().gpu_uuid(), uuid);
  EXPECT_EQ(shared.grant.device().mode(), v1::DeviceRequest::SHARED);
  EXPECT_EQ(shared.grant.device().nbytes(), kGiB);
  EXPECT_EQ(shared.grant.device().legacy_handle(), "");
  ASSERT_EQ(shared.grant.model().gpu_copies_size(), 1);
  EXPECT_EQ(shared.grant.model().gpu_copies(0).gpu(), GpuCache::Gpu(1).ToText());
  EXPECT_EQ(shared.grant.model().gpu_copies(0).nbytes(), kGiB);
  EXPECT_EQ(shared.grant.model().gpu_copies(0).leases(), 1);

  EXPECT_EQ(Acquire(Request(uuid, v1::DeviceRequest::PRIVATE)).grant.device().mode(),
            v1::DeviceRequest::PRIVATE);
  EXPECT_EQ(Acquire(Request(uuid, v1::DeviceRequest::SHARED, true)).grant.device().legacy_handle(),
            "handle");
  EXPECT_TRUE(gpus_.acquired().device->legacy);
}

TEST_F(GpusTest, RefusesMalformedDevices) {
  const std::string uuid = GpuCache::Gpu(0).ToBytes();
  for (const v1::DeviceRequest& wrong : {
           Request("", v1::DeviceRequest::SHARED),
           Request(uuid.substr(1), v1::DeviceRequest::SHARED),
           Request(uuid + "x", v1::DeviceRequest::SHARED),
           Request(uuid, v1::DeviceRequest::MODE_UNSPECIFIED),
           Request(uuid, static_cast<v1::DeviceRequest::Mode>(7)),
           Request(uuid, v1::DeviceRequest::PRIVATE, true),
           v1::DeviceRequest(),
       }) {
    EXPECT_EQ(Acquire(wrong).reason, v1::INVALID_ARGUMENT) << wrong.ShortDebugString();
  }
}

TEST_F(GpusTest, WhoMayNotLoadMayNotPutItOnAGpuEither) {
  const v1::DeviceRequest device = Request(GpuCache::Gpu(0).ToBytes(), v1::DeviceRequest::SHARED);
  Acquire(device);
  EXPECT_TRUE(gpus_.acquired().may_load);
  Acquire(device, "guests");
  EXPECT_FALSE(gpus_.acquired().may_load);
  Acquire(device, "default", /*resident_only=*/true);
  EXPECT_FALSE(gpus_.acquired().may_load);
}

TEST_F(GpusTest, PreloadsToGpusByAnyName) {
  EXPECT_EQ(Preload({"1"}), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(gpus_.preloaded().gpus, std::vector<GpuId>({GpuCache::Gpu(1)}));
  EXPECT_EQ(Preload({GpuCache::Gpu(1).ToText(), "all", "0", "1"}), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(gpus_.preloaded().gpus, std::vector<GpuId>({GpuCache::Gpu(1), GpuCache::Gpu(0)}));
  EXPECT_EQ(Preload({}), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_TRUE(gpus_.preloaded().gpus.empty());
  EXPECT_EQ(Preload({"2"}), v1::DEVICE_UNAVAILABLE);
  EXPECT_EQ(Preload({"every"}), v1::DEVICE_UNAVAILABLE);
}

TEST_F(GpusTest, DescribesAModelThatIsOnlyOnGpus) {
  ASSERT_EQ(Preload({"0"}), v1::ERROR_REASON_UNSPECIFIED);
  grpc::ClientContext context;
  v1::DescribeModelRequest request;
  request.set_model(kModel);
  v1::DescribeModelResponse response;
  ASSERT_TRUE(admin_->DescribeModel(&context, request, &response).ok());
  EXPECT_EQ(response.model().state(), v1::RESIDENT);
  EXPECT_EQ(response.huge_page_fraction(), 0);
}

TEST_F(GpusTest, EvictsFromOneGpu) {
  v1::EvictRequest request;
  request.set_model(kModel);
  request.set_gpu("0");
  v1::EvictResponse response;
  {
    grpc::ClientContext context;
    EXPECT_FALSE(admin_->Evict(&context, request, &response).ok());
    EXPECT_EQ(DetailOf(context).reason(), v1::MODEL_IN_USE);
    EXPECT_EQ(DetailOf(context).model(), kModel);
  }
  {
    grpc::ClientContext context;
    request.set_force(true);
    EXPECT_TRUE(admin_->Evict(&context, request, &response).ok());
    EXPECT_EQ(response.freed_bytes(), kGiB);
  }
  grpc::ClientContext context;
  request.set_gpu("7");
  EXPECT_FALSE(admin_->Evict(&context, request, &response).ok());
  EXPECT_EQ(DetailOf(context).reason(), v1::DEVICE_UNAVAILABLE);
}

TEST_F(GpusTest, DrainsAndResumes) {
  v1::DrainGpuResponse drained;
  EXPECT_EQ(Drain("1", /*force=*/false, &drained), v1::MODEL_IN_USE);
  EXPECT_EQ(Drain("9", /*force=*/true, &drained), v1::DEVICE_UNAVAILABLE);
  ASSERT_EQ(Drain("1", /*force=*/true, &drained), v1::ERROR_REASON_UNSPECIFIED);
  EXPECT_EQ(drained.freed_bytes(), kGiB);
  EXPECT_EQ(drained.gpu().uuid(), GpuCache::Gpu(1).ToText());
  EXPECT_EQ(drained.gpu().state(), v1::GpuStatus::DRAINED);
  grpc::ClientContext context;
  v1::ResumeGpuRequest request;
  request.set_gpu(GpuCache::Gpu(1).ToText());
  v1::ResumeGpuResponse resumed;
  ASSERT_TRUE(admin_->ResumeGpu(&context, request, &resumed).ok());
  EXPECT_EQ(resumed.gpu().state(), v1::GpuStatus::RUNNING);
}

TEST_F(GpusTest, DrainsThatTakeLongKeepNobodyWaiting) {
  gpus_.HoldDrains();
  constexpr int kDrains = BlockingCalls::kMost;
  std::vector<std::thread> operators;
  for (int i = 0; i < kDrains; ++i) {
    operators.emplace_back([this] {
      v1::DrainGpuResponse response;
      EXPECT_EQ(Drain("0", /*force=*/true, &response), v1::ERROR_REASON_UNSPECIFIED);
    });
  }
  ASSERT_TRUE(gpus_.AwaitDrains(kDrains));
  // More of them than any number of gRPC's threads could run, or are to.
  v1::DrainGpuResponse one_more;
  EXPECT_EQ(Drain("1", /*force=*/true, &one_more), v1::TOO_MANY_REQUESTS);
  EXPECT_EQ(Preload({"1"}), v1::ERROR_REASON_UNSPECIFIED);
  gpus_.LetDrainsEnd();
  for (std::thread& one : operators) {
    one.join();
  }
  EXPECT_EQ(Drain("1", /*force=*/true, &one_more), v1::ERROR_REASON_UNSPECIFIED);
}

TEST_F(GpusTest, ADrainGoesOnWhenItsCallerLeaves) {
  gpus_.HoldDrains();
  grpc::ClientContext context;
  std::thread caller([&] {
    v1::DrainGpuRequest request;
    request.set_gpu("1");
    request.set_force(true);
    v1::DrainGpuResponse response;
    EXPECT_EQ(admin_->DrainGpu(&context, request, &response).error_code(),
              grpc::StatusCode::CANCELLED);
  });
  ASSERT_TRUE(gpus_.AwaitDrains(1));
  context.TryCancel();
  caller.join();
  gpus_.LetDrainsEnd();
  EXPECT_TRUE(gpus_.AwaitDrains(0));
  EXPECT_EQ(gpus_.Gpus()[1].state, device::GpuStatus::State::kDrained);
}

TEST_F(GpusTest, ShowsGpus) {
  grpc::ClientContext context;
  v1::GetStatusResponse status;
  ASSERT_TRUE(admin_->GetStatus(&context, {}, &status).ok());
  ASSERT_EQ(status.gpus_size(), 2);
  const v1::GpuStatus& gpu = status.gpus(1);
  EXPECT_EQ(gpu.uuid(), GpuCache::Gpu(1).ToText());
  EXPECT_EQ(gpu.index(), 1);
  EXPECT_EQ(gpu.name(), "Fake GPU");
  EXPECT_EQ(gpu.state(), v1::GpuStatus::RUNNING);
  EXPECT_EQ(gpu.worker_pid(), 42);
  EXPECT_EQ(gpu.total_bytes(), 80 * kGiB);
  EXPECT_EQ(gpu.tier().budget(), 40 * kGiB);
  EXPECT_EQ(gpu.tier().resident(), 3 * kGiB);
  EXPECT_EQ(gpu.tier().loading(), 2 * kGiB);
  EXPECT_EQ(gpu.tier().draining(), kGiB);
}

TEST_F(GpusTest, EventsNameTheGpu) {
  grpc::ClientContext watching;
  const auto events = admin_->WatchEvents(&watching, {});
  events->WaitForInitialMetadata();
  cache::Event lost{};
  lost.kind = cache::EventKind::kGpuLost;
  lost.gpu = GpuCache::Gpu(1);
  lost.error = Error(Reason::kDeviceUnavailable, "Xid 79");
  daemon_.cache->events().Publish(lost);
  cache::Event copied{};
  copied.kind = cache::EventKind::kGpuCopied;
  copied.uri = *Uri::Parse(kModel);
  copied.gpu = GpuCache::Gpu(0);
  copied.bytes = kGiB;
  daemon_.cache->events().Publish(copied);
  v1::WatchEventsResponse event;
  ASSERT_TRUE(events->Read(&event));
  EXPECT_EQ(event.event().kind(), v1::Event::GPU_LOST);
  EXPECT_EQ(event.event().model(), "");
  EXPECT_EQ(event.event().gpu(), GpuCache::Gpu(1).ToText());
  EXPECT_EQ(event.event().error().message(), "Xid 79");
  ASSERT_TRUE(events->Read(&event));
  EXPECT_EQ(event.event().kind(), v1::Event::GPU_COPIED);
  EXPECT_EQ(event.event().model(), kModel);
  EXPECT_EQ(event.event().gpu(), GpuCache::Gpu(0).ToText());
  EXPECT_EQ(event.event().bytes(), kGiB);
  watching.TryCancel();
  EXPECT_EQ(events->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(NoGpusTest, SaysSo) {
  TestDaemon daemon;
  daemon.Put(kModel);
  const auto admin = daemon.Admin();
  for (const char* name : {"0", "all"}) {
    grpc::ClientContext context;
    v1::PreloadRequest request;
    request.set_model(kModel);
    request.add_gpus(name);
    EXPECT_FALSE(admin->Preload(&context, request)->Finish().ok());
    EXPECT_EQ(DetailOf(context).reason(), v1::DEVICE_UNAVAILABLE) << name;
    EXPECT_NE(DetailOf(context).hint(), "");
  }
  grpc::ClientContext context;
  v1::GetStatusResponse status;
  ASSERT_TRUE(admin->GetStatus(&context, {}, &status).ok());
  EXPECT_EQ(status.gpus_size(), 0);
}

}  // namespace
}  // namespace weightd::service
