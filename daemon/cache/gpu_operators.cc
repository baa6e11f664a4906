// What operators do to GPUs.

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

absl::Status NoGpu() {
  return Error(Reason::kDeviceUnavailable, "this node has no GPU that weightd can use",
               "see `weightctl doctor`");
}

}  // namespace

absl::StatusOr<EvictResult> NodeCache::EvictFromGpu(const Uri& /*uri*/, const GpuId& /*gpu*/,
                                                    bool /*force*/) {
  return NoGpu();
}

absl::StatusOr<uint64_t> NodeCache::DrainGpu(const GpuId& /*gpu*/, bool /*force*/) {
  return NoGpu();
}

absl::Status NodeCache::ResumeGpu(const GpuId& gpu) {
  return gpus_ == nullptr ? NoGpu() : gpus_->Resume(gpu);
}

std::vector<device::GpuStatus> NodeCache::Gpus() const {
  return gpus_ == nullptr ? std::vector<device::GpuStatus>() : gpus_->List();
}

absl::StatusOr<GpuId> NodeCache::FindGpu(absl::string_view name) const {
  return gpus_ == nullptr ? absl::StatusOr<GpuId>(NoGpu()) : gpus_->Find(name);
}

}  // namespace weightd::cache
