#include "daemon/descriptor_plan.h"

#include <sys/resource.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

// Standard streams, epoll sets, event counters, locks, listening sockets, gRPC's own.
constexpr uint64_t kProcess = 64;
// gRPC has one; the other is a duplicate that shows its end.
constexpr uint64_t kOfConnection = 2;
// Segments, indexes and small files of models that are resident; at least so many beside those of
// the list.
constexpr uint64_t kOfModel = 3;
// Where a keeper has them and the model's card, those that go there again should it come back.
constexpr uint64_t kOfKeptModel = 4;
// Of a copy on a GPU: what it was exported as, and the keeper's of that.
constexpr uint64_t kOfCopy = 1;
constexpr uint64_t kOfKeptCopy = 1;
constexpr uint64_t kModels = 64;
constexpr uint64_t kFilesOfLoad = 8;
constexpr uint64_t kAdminConnections = 64;
// The connection, both ends of the way to gRPC, and one more that is not let in yet.
constexpr uint64_t kOfAdminTcpConnection = 4;
constexpr uint64_t kMetrics = 64;
// So that two users share what is left of it.
constexpr uint64_t kLeast = 2;

uint32_t Share(uint32_t wanted, uint64_t available, uint64_t needed) {
  return static_cast<uint32_t>(
      std::min<uint64_t>(wanted, std::max(kLeast, wanted * available / needed)));
}

// Of those of the list, as they are placed; of the others one each, if there is a GPU.
uint64_t CopiesOf(const v1::Config& config, uint64_t gpus) {
  uint64_t copies = gpus > 0 ? kModels : 0;
  for (const v1::ModelConfig& model : config.models()) {
    const auto& placed = model.placement().gpus();
    const bool everywhere = std::find(placed.begin(), placed.end(), "all") != placed.end();
    copies += everywhere ? gpus : std::min<uint64_t>(gpus, static_cast<uint64_t>(placed.size()));
  }
  return copies;
}

}  // namespace

DescriptorPlan PlanDescriptors(const v1::Config& config, uint64_t gpus, uint64_t limit) {
  DescriptorPlan plan;
  plan.limit = limit;
  for (const v1::ListenerConfig& listener : config.listeners()) {
    plan.listeners += kOfConnection * listener.max_connections() + listener.max_sessions();
  }
  const auto stores = static_cast<uint64_t>(config.sources().s3().stores_size());
  const auto models = static_cast<uint64_t>(config.models_size());
  const bool kept = !config.keeper_dir().empty();
  const uint64_t of_model = kOfModel + (kept ? kOfKeptModel : 0);
  const uint64_t of_copy = kOfCopy + (kept ? kOfKeptCopy : 0);
  plan.others = kProcess + kOfConnection * kAdminConnections +
                kFilesOfLoad * config.cache().max_loads() +
                config.sources().http().connections() * (1 + stores) +
                of_model * (kModels + models) + of_copy * CopiesOf(config, gpus);
  if (!config.admin().tcp().address().empty()) {
    plan.others += kOfAdminTcpConnection * kAdminConnections;
  }
  if (!config.metrics().address().empty()) {
    plan.others += kMetrics;
  }
  return plan;
}

void LowerToFit(const DescriptorPlan& plan, v1::Config& config) {
  if (plan.fits()) {
    return;
  }
  const uint64_t left = plan.limit > plan.others ? plan.limit - plan.others : 0;
  const uint64_t available = std::max(left, plan.limit / 4);
  for (v1::ListenerConfig& listener : *config.mutable_listeners()) {
    listener.set_max_connections(Share(listener.max_connections(), available, plan.listeners));
    listener.set_max_sessions(Share(listener.max_sessions(), available, plan.listeners));
  }
}

v1::Config WithinDescriptors(v1::Config config, uint64_t gpus) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return config;
  }
  const DescriptorPlan plan = PlanDescriptors(config, gpus, limit.rlim_cur);
  if (plan.fits()) {
    return config;
  }
  LowerToFit(plan, config);
  const v1::ListenerConfig& first = config.listeners(0);
  Log(LogLevel::kWarning, "descriptors.short",
      {{"limit", plan.limit},
       {"needed", plan.needed()},
       {"listener", first.name()},
       {"max_connections", first.max_connections()},
       {"max_sessions", first.max_sessions()},
       {"hint", absl::StrCat("raise the hard limit of open files to ", plan.needed(),
                             " (ulimit -Hn, LimitNOFILE= of the unit, --ulimit nofile= of the "
                             "container), or lower max_connections and max_sessions")}});
  return config;
}

}  // namespace weightd
