#ifndef WEIGHTD_DAEMON_DEVICE_GPU_LIST_H_
#define WEIGHTD_DAEMON_DEVICE_GPU_LIST_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"

namespace weightd::device {

// What the driver says of a GPU, whatever is done with it.
struct GpuFacts {
  GpuId id;
  int index = 0;
  std::string name;
  uint64_t total_bytes = 0;
  // Of allocations that can be exported; 0 if it can't export any.
  uint64_t granularity = 0;
};

// The GPUs that the driver shows in our environment, by index, at least one. Asked of a short-lived
// process, which is killed after `patience`: this one never touches the driver. An error is why
// there are none: no driver, too old, none visible, or it hangs.
absl::StatusOr<std::vector<GpuFacts>> ListGpus(const std::vector<std::string>& worker_command,
                                               const std::string& driver, absl::Duration patience);

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_GPU_LIST_H_
