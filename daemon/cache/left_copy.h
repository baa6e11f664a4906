#ifndef WEIGHTD_DAEMON_CACHE_LEFT_COPY_H_
#define WEIGHTD_DAEMON_CACHE_LEFT_COPY_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "daemon/device/budget.h"
#include "daemon/device/gpus.h"

namespace weightd::cache {

// A copy on a GPU that an earlier daemon left: charged, and believed nothing until the GPU's worker
// has looked at it. Dropping one may wait for the driver: not under a lock.
struct LeftCopy {
  // More would keep the room, and a model that is nowhere else, for ever.
  static constexpr int kMostTries = 10;

  GpuId gpu;
  Fd exported;
  // None if a worker that had it is lost: to be reserved anew.
  device::Reservation room;
  // It lies in the store while this lives.
  std::shared_ptr<void> kept;
  // How often it couldn't be looked at, for a reason that may pass, and when (Uptime) it is looked
  // at again, unless somebody wants it before.
  int tries = 0;
  absl::Duration again_at = {};
};

// What copies of that revision are marked with.
inline std::string MarkOf(const RevisionId& revision) {
  return revision.hex().substr(0, device::kMarkBytes);
}

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_LEFT_COPY_H_
