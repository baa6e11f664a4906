#ifndef WEIGHTD_CLIENT_CPP_DEVICE_MODEL_STATE_H_
#define WEIGHTD_CLIENT_CPP_DEVICE_MODEL_STATE_H_

#include <sys/types.h>

#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cpp/device_model.h"
#include "client/cpp/granted_model.h"
#include "client/cpp/held_lease.h"
#include "client/cpp/model_tensors.h"
#include "client/cpp/small_files.h"
#include "common/cuda_memory.h"
#include "common/gpu_id.h"
#include "weightd/v1/weights.pb.h"

namespace weightd::client {

// The GPU that the options mean, in this process. kDeviceNotVisible if it sees no such GPU, or has
// no driver.
absl::StatusOr<std::shared_ptr<const CudaContext>> OpenGpu(const DeviceOptions& options);

// What to ask the daemon for.
v1::DeviceRequest ToRequest(const DeviceOptions& options, const GpuId& gpu);

// What the copies of a DeviceModel share. Immutable.
class DeviceModel::State {
 public:
  // Maps what was claimed for `lease`. On memory of one's own none is needed afterwards.
  static absl::StatusOr<std::shared_ptr<const State>> Map(
      std::shared_ptr<HeldLease> lease, const v1::Grant& grant, const ClaimedHandles& handles,
      std::shared_ptr<const CudaContext> context, const DeviceOptions& options);
  // Unmaps first: the daemon must not count on memory that is still mapped.
  ~State();
  State(const State&) = delete;

  const GrantedModel& granted() const { return granted_; }
  const GpuId& gpu() const { return gpu_; }
  DeviceMode mode() const { return mode_; }
  const DeviceTensor::Memory& segment() const { return segment_; }
  const ModelTensors<DeviceTensor>& tensors() const { return *tensors_; }
  const SmallFiles& files() const { return files_; }

 private:
  State(std::shared_ptr<HeldLease> lease, const v1::Grant& grant, const GpuId& gpu,
        DeviceMode mode);

  void Unmap();

  // Null once there is no lease. Dies after the destructor has unmapped.
  std::shared_ptr<HeldLease> lease_;
  const GrantedModel granted_;
  const GpuId gpu_;
  const DeviceMode mode_;
  const pid_t creator_;
  // On the heap, so that a child after fork() can leave it alone.
  std::unique_ptr<CudaMemory> memory_;
  DeviceTensor::Memory segment_;
  // Set by Map.
  std::optional<ModelTensors<DeviceTensor>> tensors_;
  SmallFiles files_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_DEVICE_MODEL_STATE_H_
