#ifndef WEIGHTD_DAEMON_CONFIGURED_METRICS_H_
#define WEIGHTD_DAEMON_CONFIGURED_METRICS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "daemon/cache/cache.h"
#include "daemon/device/gpus.h"
#include "daemon/metrics/counters.h"
#include "daemon/metrics/exposition.h"
#include "daemon/service/model_names.h"
#include "weightd/v1/admin.pb.h"
#include "weightd/v1/config.pb.h"

namespace weightd {

// Counters for what the config names.
std::unique_ptr<metrics::Counters> MakeCounters(const v1::Config& config, const device::Gpus& gpus);

// What metrics show of the daemon. All of it outlives the exposition.
struct Shown {
  const metrics::Counters* counters;
  cache::Cache* cache;
  const service::ModelNames* names;
  // As Admin.GetStatus has them.
  std::function<std::vector<v1::ListenerStatus>()> listeners;
  // As Admin.ListConfiguredModels has them.
  std::function<std::vector<v1::ConfiguredModel>()> models;
  // In seconds since 1970; 0: there is none.
  std::function<int64_t()> admin_certificate_expiry;
  // As Admin.GetStatus has it; empty if there is none.
  std::function<v1::KeeperStatus()> keeper;
  absl::Time started;
};

std::unique_ptr<metrics::Exposition> MakeExposition(Shown shown);

}  // namespace weightd

#endif  // WEIGHTD_DAEMON_CONFIGURED_METRICS_H_
