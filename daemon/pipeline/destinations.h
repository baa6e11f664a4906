#ifndef WEIGHTD_DAEMON_PIPELINE_DESTINATIONS_H_
#define WEIGHTD_DAEMON_PIPELINE_DESTINATIONS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/gpu_id.h"
#include "daemon/device/budget.h"
#include "daemon/device/gpus.h"

namespace weightd::pipeline {

// Takes bytes out of a GPU's budget, evicting what may be evicted there.
using MakeRoomOn =
    std::function<absl::StatusOr<device::Reservation>(const GpuId& gpu, uint64_t bytes)>;

// Where the bytes of a load go.
struct Destinations {
  // Without it they go through a small window of host memory, and `gpus` has one at least.
  bool host = true;
  std::vector<GpuId> gpus = {};
  // On all of them.
  device::Handles handles = device::Handles::kDescriptor;
  // As UploadPlan's; make_room_on sees to its bytes.
  std::string mark = {};
  MakeRoomOn make_room_on = {};
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_DESTINATIONS_H_
