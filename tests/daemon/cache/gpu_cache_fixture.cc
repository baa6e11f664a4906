#include "tests/daemon/cache/gpu_cache_fixture.h"

#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace weightd::cache {

void GpuCacheTest::StartWithGpus(uint64_t granules, CacheOptions options) {
  gpus_ = std::make_unique<fakes::FakeGpus>(std::vector<std::pair<GpuId, uint64_t>>{
      {kGpu, granules * kGranule}, {kOtherGpu, granules * kGranule}});
  gpus_on_node_ = gpus_.get();
  store_.UseGpus(gpus_.get());
  Start(1000, std::move(options));
}

CacheOptions GpuCacheTest::Placed(const std::string& name, const Placement& placement) {
  CacheOptions options;
  options.placements[Named(name).ToString()] = placement;
  return options;
}

std::unique_ptr<Call> GpuCacheTest::AcquireOn(const GpuId& gpu, const std::string& name,
                                              bool is_private, SessionId session) {
  return AcquireOn({.gpu = gpu, .is_private = is_private}, name, /*may_load=*/true, session);
}

std::unique_ptr<Call> GpuCacheTest::AcquireOn(const DeviceRequest& device, const std::string& name,
                                              bool may_load, SessionId session) {
  auto call = std::make_unique<Call>();
  AcquireRequest request;
  request.uri = Named(name);
  request.may_load = may_load;
  request.device = device;
  request.holder = {.session = session, .listener = "test", .uid = 7};
  call->Keep(cache_->Acquire(std::move(request), call->ForAcquire()));
  return call;
}

Grant GpuCacheTest::GrantOn(const GpuId& gpu, const std::string& name, SessionId session) {
  absl::StatusOr<Grant> grant = AcquireOn(gpu, name, /*is_private=*/false, session)->Await();
  EXPECT_TRUE(grant.ok()) << grant.status();
  return grant.ok() ? *std::move(grant) : Grant();
}

std::unique_ptr<Call> GpuCacheTest::PreloadTo(const GpuId& gpu, const std::string& name, bool pin) {
  auto call = std::make_unique<Call>();
  PreloadRequest request;
  request.uri = Named(name);
  request.pin = pin;
  request.gpus = {gpu};
  call->Keep(cache_->Preload(std::move(request), call->ForPreload()));
  return call;
}

std::vector<GpuId> GpuCacheTest::Where(const std::string& name) {
  std::vector<GpuId> gpus;
  const absl::StatusOr<ModelSnapshot> model = cache_->Model(Named(name));
  if (model.ok()) {
    for (const GpuCopySnapshot& copy : model->copies) {
      gpus.push_back(copy.gpu);
    }
  }
  return gpus;
}

void GpuCacheTest::AwaitUsedGranules(const GpuId& gpu, uint64_t granules) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (UsedGranules(gpu) != granules) {
    ASSERT_LT(absl::Now(), deadline) << UsedGranules(gpu);
    std::this_thread::yield();
  }
}

}  // namespace weightd::cache
