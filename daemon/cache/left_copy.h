#ifndef WEIGHTD_DAEMON_CACHE_LEFT_COPY_H_
#define WEIGHTD_DAEMON_CACHE_LEFT_COPY_H_

#include <memory>
#include <string>

#include "common/fd.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "daemon/device/budget.h"
#include "daemon/device/gpus.h"

namespace weightd::cache {

// A copy on a GPU that an earlier daemon left: charged, and believed nothing until the GPU's worker
// has looked at it.
struct LeftCopy {
  GpuId gpu;
  Fd exported;
  device::Reservation room;
  // It lies in the store while this lives.
  std::shared_ptr<void> kept;
};

// What copies of that revision are marked with.
inline std::string MarkOf(const RevisionId& revision) {
  return revision.hex().substr(0, device::kMarkBytes);
}

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_LEFT_COPY_H_
