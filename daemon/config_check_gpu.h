#ifndef WEIGHTD_DAEMON_CONFIG_CHECK_GPU_H_
#define WEIGHTD_DAEMON_CONFIG_CHECK_GPU_H_

#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "common/uri.h"
#include "daemon/config_fields.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// Budgets, sizes and names of GPUs in `gpu`. Which GPUs the node has is not looked at: one config
// serves a fleet.
absl::Status CheckGpu(const v1::GpuConfig& gpu, const FieldLines& lines);

// By the model's URI.
using Placements = absl::flat_hash_map<std::string, v1::PlacementConfig>;

// The placement of the model at `path`, beside those of the models before it, to which it is added.
absl::Status CheckPlacement(const v1::ModelConfig& model, const Uri& uri, const std::string& path,
                            Placements& placements, const FieldLines& lines);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIG_CHECK_GPU_H_
