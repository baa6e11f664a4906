#ifndef WEIGHTD_DAEMON_DEVICE_DEVICE_IMPORT_H_
#define WEIGHTD_DAEMON_DEVICE_DEVICE_IMPORT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "daemon/device/gpus.h"
#include "daemon/device/worker_link.h"

namespace weightd::device {

// A segment that an earlier worker of the same GPU exported, held by this one from here on. As
// Gpus::Import.
absl::StatusOr<std::shared_ptr<Segment>> ImportSegment(std::shared_ptr<WorkerLink> link,
                                                       ImportPlan& plan,
                                                       Cancellation& cancellation);

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_DEVICE_IMPORT_H_
