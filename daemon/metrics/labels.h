#ifndef WEIGHTD_DAEMON_METRICS_LABELS_H_
#define WEIGHTD_DAEMON_METRICS_LABELS_H_

#include <string>

#include "common/status.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/progress.h"
#include "daemon/source/traffic.h"

// How enums are written in labels. Stable: queries and alerts are made of them.

namespace weightd::metrics {

// As the names of ErrorReason in proto/weightd/v1/error.proto, in small letters; "ok" of no error.
std::string LabelOf(Reason reason);
std::string LabelOf(pipeline::Phase phase);
std::string LabelOf(source::RetryReason reason);
std::string LabelOf(device::GpuStatus::State state);

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_LABELS_H_
