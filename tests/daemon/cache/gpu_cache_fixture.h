#ifndef WEIGHTD_TESTS_DAEMON_CACHE_GPU_CACHE_FIXTURE_H_
#define WEIGHTD_TESTS_DAEMON_CACHE_GPU_CACHE_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/gpu_id.h"
#include "daemon/cache/cache.h"
#include "daemon/device/budget.h"
#include "tests/daemon/cache/cache_fixture.h"
#include "tests/fakes/fake_gpus.h"

namespace weightd::cache {

// A cache on a node with two GPUs. A model of at most a granule takes one there.
class GpuCacheTest : public CacheTest {
 protected:
  static constexpr uint64_t kGranule = device::Budget::kGranularity;
  static inline const GpuId kGpu = fakes::MakeGpuId(1);
  static inline const GpuId kOtherGpu = fakes::MakeGpuId(2);

  ~GpuCacheTest() override { Stop(); }

  // Each GPU has that many granules.
  void StartWithGpus(uint64_t granules, CacheOptions options = {});
  static CacheOptions Placed(const std::string& name, const Placement& placement);

  std::unique_ptr<Call> AcquireOn(const GpuId& gpu, const std::string& name,
                                  bool is_private = false, SessionId session = kAlice);
  std::unique_ptr<Call> AcquireOn(const DeviceRequest& device, const std::string& name,
                                  bool may_load = true, SessionId session = kAlice);
  // Waits; a failure fails the test.
  Grant GrantOn(const GpuId& gpu, const std::string& name, SessionId session = kAlice);
  std::unique_ptr<Call> PreloadTo(const GpuId& gpu, const std::string& name, bool pin = false);
  // GPUs that the model is on.
  std::vector<GpuId> Where(const std::string& name);
  uint64_t UsedGranules(const GpuId& gpu) { return gpus_->UsageOf(gpu).used() / kGranule; }
  // Until what was dropped is out of the way.
  void AwaitUsedGranules(const GpuId& gpu, uint64_t granules);

  std::unique_ptr<fakes::FakeGpus> gpus_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_TESTS_DAEMON_CACHE_GPU_CACHE_FIXTURE_H_
