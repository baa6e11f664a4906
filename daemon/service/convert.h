#ifndef WEIGHTD_DAEMON_SERVICE_CONVERT_H_
#define WEIGHTD_DAEMON_SERVICE_CONVERT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/pins.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/events.h"
#include "daemon/cache/snapshots.h"
#include "daemon/device/gpus.h"
#include "daemon/host/host_tier.h"
#include "daemon/service/model_names.h"
#include "weightd/v1/admin.pb.h"
#include "weightd/v1/weights.pb.h"

// What the cache says, as messages. The enums have the same values on both sides.

namespace weightd::service {

v1::LoadProgress ToProto(const cache::ProgressSnapshot& progress);
v1::ModelSummary ToProto(const cache::ModelSnapshot& model, const ModelNames& names);
v1::Lease ToProto(const cache::LeaseSnapshot& lease);
v1::Event ToProto(const cache::Event& event);
v1::TierStatus ToProto(const host::HostUsage& usage);
v1::GpuStatus ToProto(const device::GpuStatus& gpu);
v1::Readoption ToProto(const cache::ReadoptionSnapshot& readoption);
v1::DeviceGrant ToProto(const cache::DeviceGrant& grant);

v1::Verification VerificationOf(const cache::Grant& grant);

// The most pins of one request: each is looked for among the model's files.
inline constexpr size_t kMostPins = 500;

// The other way; kInvalidArgument for digests that are none, and for more than kMostPins.
absl::StatusOr<Pins> PinsOf(const google::protobuf::Map<std::string, std::string>& sha256);

// kInvalidArgument for what names no GPU or no mode, and for a private copy with a legacy handle.
absl::StatusOr<cache::DeviceRequest> DeviceRequestOf(const v1::DeviceRequest& request);

// What the cache knows and what is configured but absent, ordered by model, then by load time.
std::vector<cache::ModelSnapshot> AllModels(const cache::Cache& cache, const ModelNames& names);

// One of them.
absl::StatusOr<cache::ModelSnapshot> ModelOf(const Uri& uri, const cache::Cache& cache,
                                             const ModelNames& names);

// The page of `models` that was asked for.
absl::Status FillPage(const std::vector<cache::ModelSnapshot>& models, const ModelNames& names,
                      const v1::ListModelsRequest& request, v1::ListModelsResponse& response);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CONVERT_H_
