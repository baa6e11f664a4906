#include "tests/daemon/service/gpu_cache.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/ids.h"
#include "common/status.h"
#include "daemon/pipeline/model.h"

namespace weightd::service {
namespace {

constexpr int kGpus = 2;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr absl::Duration kPatience = absl::Seconds(5);

// A key has no copies.
cache::PreloadRequest WithoutKey(const cache::PreloadRequest& request) {
  cache::PreloadRequest copy;
  copy.uri = request.uri;
  copy.pin = request.pin;
  copy.gpus = request.gpus;
  return copy;
}

}  // namespace

GpuCache::GpuCache(std::unique_ptr<cache::Cache> host) : host_(std::move(host)) {}

GpuId GpuCache::Gpu(uint8_t index) { return GpuId({0x47, index}); }

cache::AcquireRequest GpuCache::acquired() const {
  const absl::MutexLock lock(&mutex_);
  return acquired_;
}

cache::PreloadRequest GpuCache::preloaded() const {
  const absl::MutexLock lock(&mutex_);
  return WithoutKey(preloaded_);
}

void GpuCache::HoldDrains() {
  const absl::MutexLock lock(&mutex_);
  holds_drains_ = true;
}

void GpuCache::LetDrainsEnd() {
  const absl::MutexLock lock(&mutex_);
  holds_drains_ = false;
}

bool GpuCache::AwaitDrains(int running) const {
  const absl::MutexLock lock(&mutex_);
  const auto reached = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return draining_ == running; };
  return mutex_.AwaitWithTimeout(absl::Condition(&reached), kPatience);
}

std::unique_ptr<cache::Wait> GpuCache::Acquire(cache::AcquireRequest request,
                                               cache::AcquireCallbacks callbacks) {
  {
    const absl::MutexLock lock(&mutex_);
    acquired_ = request;
  }
  if (!request.device.has_value()) {
    return host_->Acquire(std::move(request), std::move(callbacks));
  }
  cache::Grant grant;
  grant.lease = LeaseId(1);
  grant.model.uri = request.uri;
  grant.model.copies = {{.gpu = request.device->gpu, .bytes = kGiB, .leases = 1}};
  grant.device = cache::DeviceGrant{.gpu = request.device->gpu,
                                    .is_private = request.device->is_private,
                                    .bytes = kGiB,
                                    .legacy_handle = request.device->legacy ? "handle" : ""};
  callbacks.done(std::move(grant));
  return nullptr;
}

std::unique_ptr<cache::Wait> GpuCache::Preload(cache::PreloadRequest request,
                                               cache::PreloadCallbacks callbacks) {
  {
    const absl::MutexLock lock(&mutex_);
    preloaded_ = WithoutKey(request);
  }
  request.gpus.clear();
  return host_->Preload(std::move(request), std::move(callbacks));
}

absl::StatusOr<cache::EvictResult> GpuCache::EvictFromGpu(const Uri& /*uri*/, const GpuId& gpu,
                                                          bool force) {
  if (!force) {
    return Error(Reason::kModelInUse, absl::StrCat("leased on ", gpu.ToText()));
  }
  return cache::EvictResult{.freed_bytes = kGiB};
}

absl::StatusOr<uint64_t> GpuCache::DrainGpu(const GpuId& gpu, bool force) {
  if (!force) {
    return Error(Reason::kModelInUse, "leased");
  }
  const absl::MutexLock lock(&mutex_);
  ++draining_;
  const auto may_end = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !holds_drains_; };
  mutex_.Await(absl::Condition(&may_end));
  --draining_;
  drained_.push_back(gpu);
  return kGiB;
}

absl::Status GpuCache::ResumeGpu(const GpuId& gpu) {
  const absl::MutexLock lock(&mutex_);
  std::erase(drained_, gpu);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const pipeline::ResidentModel>> GpuCache::Resident(
    const Uri& uri) const {
  ASSIGN_OR_RETURN(const auto on_host, host_->Resident(uri));
  auto model = std::make_shared<pipeline::ResidentModel>();
  model->index = on_host->index;
  model->digests = on_host->digests;
  return model;
}

std::vector<device::GpuStatus> GpuCache::Gpus() const {
  const absl::MutexLock lock(&mutex_);
  std::vector<device::GpuStatus> gpus(kGpus);
  for (int i = 0; i < kGpus; ++i) {
    device::GpuStatus& gpu = gpus[static_cast<size_t>(i)];
    gpu.id = Gpu(static_cast<uint8_t>(i));
    gpu.index = i;
    gpu.name = "Fake GPU";
    gpu.total_bytes = 80 * kGiB;
    gpu.usage = {.budget = 40 * kGiB, .resident = 3 * kGiB, .loading = 2 * kGiB, .draining = kGiB};
    const bool drained = std::find(drained_.begin(), drained_.end(), gpu.id) != drained_.end();
    gpu.state = drained ? device::GpuStatus::State::kDrained : device::GpuStatus::State::kRunning;
    gpu.worker_pid = drained ? 0 : 42;
  }
  return gpus;
}

absl::StatusOr<GpuId> GpuCache::FindGpu(absl::string_view name) const {
  int index = 0;
  if (absl::SimpleAtoi(name, &index) && index >= 0 && index < kGpus) {
    return Gpu(static_cast<uint8_t>(index));
  }
  const absl::StatusOr<GpuId> gpu = GpuId::FromText(name);
  if (gpu.ok() && (*gpu == Gpu(0) || *gpu == Gpu(1))) {
    return gpu;
  }
  return Error(Reason::kDeviceUnavailable, absl::StrCat("no GPU ", name));
}

}  // namespace weightd::service
