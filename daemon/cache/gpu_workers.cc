#include "daemon/cache/gpu_workers.h"

namespace weightd::cache {

GpuWorkers::GpuWorkers(const std::string& name, const device::Gpus* gpus, int threads)
    : elsewhere_(name, gpus == nullptr ? 0 : 1) {
  if (gpus == nullptr) {
    return;
  }
  for (const device::GpuStatus& gpu : gpus->List()) {
    on_.try_emplace(gpu.id, name, threads);
  }
}

Workers& GpuWorkers::On(const GpuId& gpu) {
  const auto found = on_.find(gpu);
  return found == on_.end() ? elsewhere_ : found->second;
}

void GpuWorkers::Stop() {
  for (auto& [gpu, workers] : on_) {
    workers.Stop();
  }
  elsewhere_.Stop();
}

}  // namespace weightd::cache
