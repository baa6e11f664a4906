#ifndef WEIGHTD_DAEMON_DEVICE_NODE_GPUS_H_
#define WEIGHTD_DAEMON_DEVICE_NODE_GPUS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "daemon/device/gpu.h"
#include "daemon/device/gpu_list.h"
#include "daemon/device/gpus.h"

namespace weightd::device {

// The GPUs that a listing gave. Thread-safe; dies after all calls to it have returned. Segments may
// outlive it: they are lost then.
class NodeGpus : public Gpus {
 public:
  NodeGpus(const absl::StatusOr<std::vector<GpuFacts>>& listed, const GpusOptions& options);
  ~NodeGpus() override;

  absl::Status why_none() const override { return why_none_; }
  std::vector<GpuStatus> List() const override;
  absl::StatusOr<GpuId> Find(absl::string_view name) const override;
  absl::StatusOr<Reservation> Reserve(const GpuId& gpu, uint64_t bytes) override;
  absl::StatusOr<Reservation> ReserveHeld(const GpuId& gpu, uint64_t device_bytes) override;
  Usage UsageOf(const GpuId& gpu) const override;
  absl::StatusOr<std::unique_ptr<Upload>> BeginUpload(UploadPlan plan) override;
  absl::StatusOr<std::shared_ptr<Segment>> CopyPrivately(PrivateCopyPlan plan,
                                                         Cancellation& cancellation) override;
  absl::StatusOr<std::shared_ptr<Segment>> Import(ImportPlan& plan,
                                                  Cancellation& cancellation) override;
  absl::Status Drain(const GpuId& gpu) override;
  absl::Status Resume(const GpuId& gpu) override;
  void OnLost(std::function<void(const GpuId& gpu, const absl::Status& why)> lost) override
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // kDeviceUnavailable if there is none such.
  absl::StatusOr<Gpu*> Get(const GpuId& gpu) const;
  absl::Status NoSuchGpu(absl::string_view name) const;
  void TellLost(const GpuId& gpu, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);

  const absl::Status why_none_;

  absl::Mutex mutex_;
  std::function<void(const GpuId&, const absl::Status&)> lost_ ABSL_GUARDED_BY(mutex_);
  // Calls of lost_ that run.
  int telling_ ABSL_GUARDED_BY(mutex_) = 0;

  // By index. Last: their threads call TellLost.
  std::vector<std::unique_ptr<Gpu>> gpus_;
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_NODE_GPUS_H_
