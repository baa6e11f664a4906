#ifndef WEIGHTD_TESTS_DAEMON_SERVICE_GPU_CACHE_H_
#define WEIGHTD_TESTS_DAEMON_SERVICE_GPU_CACHE_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/gpu_id.h"
#include "daemon/cache/cache.h"
#include "daemon/fd_store/fd_store.h"

namespace weightd::service {

// A cache on a node with two GPUs, each of 80 GiB, where whatever is asked for is at once. What has
// to do with host memory goes to another cache. Thread-safe.
class GpuCache final : public cache::Cache {
 public:
  explicit GpuCache(std::unique_ptr<cache::Cache> host);

  static GpuId Gpu(uint8_t index);

  // What was asked for last.
  cache::AcquireRequest acquired() const;
  cache::PreloadRequest preloaded() const;
  // DrainGpu doesn't return before LetDrainsEnd.
  void HoldDrains();
  void LetDrainsEnd();
  // For at most 5 s; whether as many came to run at once.
  bool AwaitDrains(int running) const;

  std::unique_ptr<cache::Wait> Acquire(cache::AcquireRequest request,
                                       cache::AcquireCallbacks callbacks) override;
  std::unique_ptr<cache::Wait> Preload(cache::PreloadRequest request,
                                       cache::PreloadCallbacks callbacks) override;
  absl::StatusOr<cache::EvictResult> EvictFromGpu(const Uri& uri, const GpuId& gpu,
                                                  bool force) override;
  absl::StatusOr<uint64_t> DrainGpu(const GpuId& gpu, bool force) override;
  absl::Status ResumeGpu(const GpuId& gpu) override;
  std::vector<device::GpuStatus> Gpus() const override;
  absl::StatusOr<GpuId> FindGpu(absl::string_view name) const override;

  void Readopt(std::vector<fd_store::StoredFd> stored) override {
    host_->Readopt(std::move(stored));
  }
  absl::Status Release(SessionId session, LeaseId lease) override {
    return host_->Release(session, lease);
  }
  void EndSession(SessionId session) override { host_->EndSession(session); }
  absl::StatusOr<std::vector<cache::ClaimedHandle>> Claim(SessionId session,
                                                          LeaseId lease) override {
    return host_->Claim(session, lease);
  }
  absl::StatusOr<cache::EvictResult> Evict(const Uri& uri, bool force) override {
    return host_->Evict(uri, force);
  }
  absl::StatusOr<cache::ModelSnapshot> Pin(const Uri& uri, bool pinned) override {
    return host_->Pin(uri, pinned);
  }
  void PinForConfig(const Uri& uri, bool pinned) override { host_->PinForConfig(uri, pinned); }
  void LetGo(const Uri& uri) override { host_->LetGo(uri); }
  void SetPlacements(cache::Placements placements) override {
    host_->SetPlacements(std::move(placements));
  }
  std::vector<cache::ModelSnapshot> Models() const override { return host_->Models(); }
  absl::StatusOr<cache::ModelSnapshot> Model(const Uri& uri) const override {
    return host_->Model(uri);
  }
  // Without its bytes in host memory, as of a model that is only on GPUs.
  absl::StatusOr<std::shared_ptr<const pipeline::ResidentModel>> Resident(
      const Uri& uri) const override;
  std::vector<cache::LeaseSnapshot> Leases() const override { return host_->Leases(); }
  cache::HeldBytes HeldBy(absl::string_view listener) const override {
    return host_->HeldBy(listener);
  }
  host::HostUsage Usage() const override { return host_->Usage(); }
  std::vector<host::DrainingSegment> Draining() const override { return host_->Draining(); }
  uint32_t LoadsRunning() const override { return host_->LoadsRunning(); }
  absl::StatusOr<cache::StoppedLoads> StopLoads(absl::Time deadline) override {
    return host_->StopLoads(deadline);
  }
  cache::StoppedLoads StopLoadsForGood() override { return host_->StopLoadsForGood(); }
  absl::StatusOr<bool> ResumeLoads() override { return host_->ResumeLoads(); }
  bool LoadsStopped() const override { return host_->LoadsStopped(); }
  cache::HandedOver HandOver(absl::Time deadline) override { return host_->HandOver(deadline); }
  cache::ReadoptionSnapshot Readoption() const override { return host_->Readoption(); }
  cache::EventLog& events() override { return host_->events(); }

 private:
  const std::unique_ptr<cache::Cache> host_;
  mutable absl::Mutex mutex_;
  cache::AcquireRequest acquired_ ABSL_GUARDED_BY(mutex_);
  cache::PreloadRequest preloaded_ ABSL_GUARDED_BY(mutex_);
  bool holds_drains_ ABSL_GUARDED_BY(mutex_) = false;
  int draining_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<GpuId> drained_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::service

#endif  // WEIGHTD_TESTS_DAEMON_SERVICE_GPU_CACHE_H_
