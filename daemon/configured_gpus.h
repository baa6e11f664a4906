#ifndef WEIGHTD_DAEMON_CONFIGURED_GPUS_H_
#define WEIGHTD_DAEMON_CONFIGURED_GPUS_H_

#include "absl/status/statusor.h"
#include "daemon/cache/cache.h"
#include "daemon/device/gpus.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// Of a valid config.
device::GpusOptions GpusOptionsOf(const v1::Config& config);

// Where the config's models are kept, by URI; models without a placement are left out. GPUs that
// the node doesn't have are left out, too, and logged: one config serves nodes of different GPUs.
// So a model that is to be only on GPUs may be left without any: it can't be loaded here.
absl::StatusOr<cache::Placements> PlacementsOf(const v1::Config& config, const device::Gpus& gpus);

// Says in the log which GPUs there are, or why there are none.
void LogGpus(const device::Gpus& gpus);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIGURED_GPUS_H_
