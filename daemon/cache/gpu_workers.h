#ifndef WEIGHTD_DAEMON_CACHE_GPU_WORKERS_H_
#define WEIGHTD_DAEMON_CACHE_GPU_WORKERS_H_

#include <map>
#include <string>

#include "common/gpu_id.h"
#include "daemon/cache/workers.h"
#include "daemon/device/gpus.h"

namespace weightd::cache {

// Threads for each GPU of the node: what waits for one that hangs keeps none of the others waiting.
// Thread-safe.
class GpuWorkers {
 public:
  // `name` as of Workers, of all of them. So many threads for each GPU; none if there are no GPUs,
  // which is null.
  GpuWorkers(const std::string& name, const device::Gpus* gpus, int threads);

  // Those of that GPU. GPUs that the node doesn't have, which fail at once, share a thread.
  Workers& On(const GpuId& gpu);

  // As Workers::Stop.
  void Stop();

 private:
  // Never changed after the constructor.
  std::map<GpuId, Workers> on_;
  Workers elsewhere_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_GPU_WORKERS_H_
