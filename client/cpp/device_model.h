#ifndef WEIGHTD_CLIENT_CPP_DEVICE_MODEL_H_
#define WEIGHTD_CLIENT_CPP_DEVICE_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cpp/device_tensor.h"
#include "client/cpp/file_check.h"
#include "common/cuda_types.h"
#include "common/gpu_id.h"

namespace weightd::client {

// How a process has a model in a GPU's memory.
enum class DeviceMode {
  // One copy for all processes, mapped read-only: a write to it is a GPU fault, after which no CUDA
  // call of the writing process succeeds any more (the others see nothing of it).
  kShared,
  // A copy of this process's own, which it may write to.
  kPrivate,
};

struct DeviceOptions {
  // Which GPU, as this process's CUDA counts them (torch's "cuda:1" is 1), and so among those that
  // CUDA_VISIBLE_DEVICES leaves; unless `gpu` names it.
  int ordinal = 0;
  std::optional<GpuId> gpu = std::nullopt;
  DeviceMode mode = DeviceMode::kShared;
  // A legacy CUDA IPC handle instead of a descriptor: only for models that the config places with
  // `handles: legacy`, and only kShared. FAILED_PRECONDITION (kPlacementDiffers) elsewhere. What
  // it maps, CUDA lets this process write to, and all others see it: don't.
  bool legacy = false;
  // The CUDA driver, for dlopen.
  std::string driver = "libcuda.so.1";
};

// A model in a GPU's memory, mapped into the GPU's primary context: the one that the CUDA runtime
// and frameworks use. Copies are cheap and share it; when the last one dies, the GPU's work is
// waited for, the memory is unmapped (kPrivate: freed), and then the lease is released. A kPrivate
// model has no lease: its memory is this process's own. Outlives its Client. Thread-safe.
// Everything was uploaded before the attach returned, so any stream may read it. The daemon's end
// changes nothing: the bytes stay.
//
// After fork() the child may drop its copies, which does nothing, and use nothing of them: CUDA
// does not work in children of a process that used it.
class DeviceModel {
 public:
  // Made by Client::AttachToDevice.
  class State;
  explicit DeviceModel(std::shared_ptr<const State> state) : state_(std::move(state)) {}

  // URI as the daemon prints it: credentials and query redacted.
  const std::string& name() const;
  // 64 hexadecimal digits.
  const std::string& revision() const;
  // As Model::verified().
  const std::vector<FileCheck>& verified() const;
  const GpuId& gpu() const;
  DeviceMode mode() const;
  // The segment on the GPU, and how many bytes are mapped from there on.
  cuda::CUdeviceptr pointer() const;
  uint64_t nbytes() const;

  // As those of Model: the index is read at the first of these calls, tied weights have each of
  // their names.
  absl::StatusOr<DeviceTensor> tensor(absl::string_view name) const;
  // Ordered by name; valid while a copy of this lives.
  absl::StatusOr<absl::Span<const DeviceTensor>> tensors() const;
  absl::StatusOr<std::map<std::string, std::string>> metadata() const;

  // As those of Model: in host memory.
  absl::StatusOr<std::map<std::string, absl::string_view>> files() const;
  absl::StatusOr<absl::string_view> file(absl::string_view name) const;

 private:
  std::shared_ptr<const State> state_;
};

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_DEVICE_MODEL_H_
