#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_UPLOAD_JOB_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_UPLOAD_JOB_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "common/cuda_memory.h"
#include "common/fd.h"
#include "common/mapping.h"
#include "daemon/device/runs.h"

namespace weightd::device {

// Where an upload's bytes are and where they go. Immutable: thread-safe. Unmaps the source when it
// dies, so not while the GPU reads it.
class UploadJob {
 public:
  // Maps `source`: read-only, or, if `pin`, writable and registered with the driver, so that the
  // GPU reads it itself. `device` points to as many bytes as `runs` was checked for. `context` is
  // current.
  static absl::StatusOr<std::shared_ptr<const UploadJob>> Create(
      std::shared_ptr<const CudaContext> context, cuda::CUdeviceptr device, Runs runs,
      const Fd& source, uint64_t source_bytes, bool pin);
  ~UploadJob();
  UploadJob(const UploadJob&) = delete;

  cuda::CUdeviceptr device() const { return device_; }
  const Runs& runs() const { return runs_; }
  const std::byte* source() const { return source_.data(); }
  uint64_t source_bytes() const { return source_.size(); }
  bool pinned() const { return pinned_; }

 private:
  UploadJob(std::shared_ptr<const CudaContext> context, cuda::CUdeviceptr device, Runs runs,
            Mapping source)
      : context_(std::move(context)),
        device_(device),
        runs_(std::move(runs)),
        source_(std::move(source)) {}

  const std::shared_ptr<const CudaContext> context_;
  const cuda::CUdeviceptr device_;
  const Runs runs_;
  const Mapping source_;
  bool pinned_ = false;
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_UPLOAD_JOB_H_
