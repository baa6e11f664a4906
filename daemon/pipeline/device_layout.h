#ifndef WEIGHTD_DAEMON_PIPELINE_DEVICE_LAYOUT_H_
#define WEIGHTD_DAEMON_PIPELINE_DEVICE_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "daemon/device/gpus.h"
#include "daemon/pipeline/model.h"

// How a revision's tensors lie in a GPU's memory, the same on each GPU. Pure.
//
// Pieces keep the order of the host segment. Those that overlap stay together, at the places that
// they have relative to one another; each such group (as a rule one tensor) begins at a multiple of
// 256. Nothing else of the host segment is on the device: no header, no padding.

namespace weightd::pipeline {

// What CUDA's own allocator gives, and the widest loads want.
inline constexpr uint64_t kDeviceAlignment = 256;

// Sets device_bytes, and the device_offset of every piece, from what the index says of the host
// segment. An empty tensor lies at 0.
void LayOutOnDevice(ModelIndex& index);

// What has to be copied from the host segment to the device, ordered on both sides, and no byte
// twice. Tensors that lie side by side on both sides are one run: of a file whose tensors are well
// aligned there are few.
std::vector<device::CopyRun> CopyRunsOf(const ModelIndex& index);

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_DEVICE_LAYOUT_H_
