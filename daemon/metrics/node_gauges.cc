#include "daemon/metrics/node_gauges.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "daemon/cache/snapshots.h"
#include "daemon/device/gpus.h"
#include "daemon/host/host_tier.h"
#include "daemon/metrics/gauge_family.h"
#include "daemon/metrics/labels.h"

namespace weightd::metrics {
namespace {

using Families = std::vector<prometheus::MetricFamily>;
using Models = std::vector<cache::ModelSnapshot>;
using Leases = std::vector<cache::LeaseSnapshot>;

constexpr std::array kGpuStates = {
    device::GpuStatus::State::kIdle, device::GpuStatus::State::kRunning,
    device::GpuStatus::State::kDrained, device::GpuStatus::State::kFailed};

void AppendHost(const cache::Cache& cache, Families& families) {
  const host::HostUsage usage = cache.Usage();
  GaugeFamily budget("weightd_host_budget_bytes", "What may be held in host memory.");
  budget.Set({}, usage.budget);
  std::move(budget).AppendTo(families);
  GaugeFamily bytes("weightd_host_bytes",
                    "Host memory by state. Resident, loading and draining count against the "
                    "budget; ready gives way to them.");
  bytes.Set({{"state", "resident"}}, usage.resident);
  bytes.Set({{"state", "loading"}}, usage.loading);
  bytes.Set({{"state", "draining"}}, usage.draining);
  bytes.Set({{"state", "ready"}}, usage.ready);
  std::move(bytes).AppendTo(families);
  GaugeFamily draining("weightd_draining_segments",
                       "Segments that are gone from the cache and that clients still map.");
  draining.Set({}, cache.Draining().size());
  std::move(draining).AppendTo(families);
  GaugeFamily loads("weightd_loads_running", "Loads that a thread works on.");
  loads.Set({}, cache.LoadsRunning());
  std::move(loads).AppendTo(families);
  GaugeFamily node_draining(
      "weightd_node_draining",
      "Whether no load starts any more: an operator drained the node, or the daemon is "
      "ending.");
  node_draining.Set({}, cache.LoadsStopped() ? 1 : 0);
  std::move(node_draining).AppendTo(families);
}

void AppendModels(const Models& models, Families& families) {
  const auto in_state = [&](cache::ModelState state) {
    return std::count_if(models.begin(), models.end(), [state](const cache::ModelSnapshot& model) {
      return model.state == state;
    });
  };
  GaugeFamily count("weightd_models", "Revisions of models, by state.");
  count.Set({{"state", "resident"}}, in_state(cache::ModelState::kResident));
  count.Set({{"state", "loading"}}, in_state(cache::ModelState::kLoading));
  std::move(count).AppendTo(families);
  GaugeFamily held("weightd_host_held_bytes",
                   "Resident host memory that nothing can make room of: of models that are leased "
                   "or pinned.");
  uint64_t held_bytes = 0;
  for (const cache::ModelSnapshot& model : models) {
    held_bytes += model.leases > 0 || model.pinned ? model.host_bytes : 0;
  }
  held.Set({}, held_bytes);
  std::move(held).AppendTo(families);
  GaugeFamily stale("weightd_stale_models",
                    "Resident models whose source could not be asked for news.");
  stale.Set({}, std::count_if(models.begin(), models.end(),
                              [](const cache::ModelSnapshot& model) { return model.stale; }));
  std::move(stale).AppendTo(families);
  GaugeFamily readopted("weightd_readopted_models",
                        "Resident models that an earlier daemon loaded, and this one took over.");
  readopted.Set({},
                std::count_if(models.begin(), models.end(),
                              [](const cache::ModelSnapshot& model) { return model.readopted; }));
  std::move(readopted).AppendTo(families);
}

void AppendListeners(const Node& node, Families& families) {
  const Leases leases = node.cache->Leases();
  GaugeFamily sessions("weightd_sessions", "Clients that are connected, by listener.");
  GaugeFamily held("weightd_leases", "Leases that clients hold, by listener.");
  GaugeFamily bytes("weightd_listener_bytes",
                    "Host memory that a listener's clients hold: of models that they lease, each "
                    "once, and of those they let go of and still map.");
  GaugeFamily most("weightd_listener_max_bytes",
                   "What both together may be; only of listeners with a limit.");
  for (const ListenerState& listener : node.listeners()) {
    sessions.Set({{"listener", listener.name}}, listener.sessions);
    held.Set({{"listener", listener.name}},
             std::count_if(leases.begin(), leases.end(), [&](const cache::LeaseSnapshot& lease) {
               return lease.listener == listener.name;
             }));
    const cache::HeldBytes theirs = node.cache->HeldBy(listener.name);
    bytes.Set({{"listener", listener.name}, {"state", "leased"}}, theirs.leased);
    bytes.Set({{"listener", listener.name}, {"state", "draining"}}, theirs.draining);
    if (theirs.quota.has_value()) {
      most.Set({{"listener", listener.name}}, *theirs.quota);
    }
  }
  std::move(sessions).AppendTo(families);
  std::move(held).AppendTo(families);
  std::move(bytes).AppendTo(families);
  std::move(most).AppendTo(families);
}

// By name, and no other models: their URIs are without bound.
void AppendConfigured(const Node& node, const Models& models, Families& families) {
  std::map<std::string, const cache::ModelSnapshot*> resident;
  for (const cache::ModelSnapshot& model : models) {
    if (model.state == cache::ModelState::kResident) {
      // The newest last.
      resident[model.uri.ToString()] = &model;
    }
  }
  GaugeFamily is_resident("weightd_model_resident", "Whether a model of the config is resident.");
  GaugeFamily bytes("weightd_model_bytes", "Host memory of a model of the config.");
  GaugeFamily leases("weightd_model_leases", "Leases on a model of the config.");
  GaugeFamily stale("weightd_model_stale",
                    "Whether the source of a model of the config could not be asked for news.");
  GaugeFamily states("weightd_configured_model_state",
                     "What became of what the config promises of a model: 1 for its state.");
  for (const ConfiguredModel& configured : node.models()) {
    const auto found = resident.find(configured.uri.ToString());
    const cache::ModelSnapshot* const model = found == resident.end() ? nullptr : found->second;
    const GaugeLabels labels = {{"model", configured.name}};
    is_resident.Set(labels, model != nullptr ? 1 : 0);
    bytes.Set(labels, model != nullptr ? model->host_bytes : 0);
    leases.Set(labels, model != nullptr ? model->leases : 0);
    stale.Set(labels, model != nullptr && model->stale ? 1 : 0);
    for (const char* const state : kConfiguredStates) {
      states.Set({{"model", configured.name}, {"state", state}}, configured.state == state ? 1 : 0);
    }
  }
  std::move(is_resident).AppendTo(families);
  std::move(bytes).AppendTo(families);
  std::move(leases).AppendTo(families);
  std::move(stale).AppendTo(families);
  std::move(states).AppendTo(families);
}

void AppendGpus(const cache::Cache& cache, Families& families) {
  GaugeFamily budget("weightd_gpu_budget_bytes", "What may be held in a GPU's memory.");
  GaugeFamily bytes("weightd_gpu_bytes", "Memory of a GPU that is weightd's, by state.");
  GaugeFamily states("weightd_gpu_state", "What weightd's worker on a GPU does: 1 for its state.");
  for (const device::GpuStatus& gpu : cache.Gpus()) {
    const std::string id = gpu.id.ToText();
    budget.Set({{"gpu", id}}, gpu.usage.budget);
    bytes.Set({{"gpu", id}, {"state", "resident"}}, gpu.usage.resident);
    bytes.Set({{"gpu", id}, {"state", "loading"}}, gpu.usage.loading);
    bytes.Set({{"gpu", id}, {"state", "draining"}}, gpu.usage.draining);
    for (const device::GpuStatus::State state : kGpuStates) {
      states.Set({{"gpu", id}, {"state", LabelOf(state)}}, gpu.state == state ? 1 : 0);
    }
  }
  std::move(budget).AppendTo(families);
  std::move(bytes).AppendTo(families);
  std::move(states).AppendTo(families);
}

void AppendKeeper(const KeeperState& keeper, Families& families) {
  GaugeFamily up("weightd_keeper_up",
                 "Whether what models' descriptors outlive the daemon in can be reached.");
  up.Set({}, keeper.reachable ? 1 : 0);
  std::move(up).AppendTo(families);
  GaugeFamily descriptors("weightd_keeper_descriptors",
                          "Descriptors that the keeper has, that are on their way to it, that it "
                          "has no room for, and that it had of others.");
  descriptors.Set({{"state", "stored"}}, keeper.stored);
  descriptors.Set({{"state", "pending"}}, keeper.pending);
  descriptors.Set({{"state", "refused"}}, keeper.refused);
  descriptors.Set({{"state", "others"}}, keeper.others);
  std::move(descriptors).AppendTo(families);
}

}  // namespace

std::vector<prometheus::MetricFamily> NodeGauges::Collect() const {
  const Models models = node_.cache->Models();
  Families families;
  AppendHost(*node_.cache, families);
  AppendModels(models, families);
  AppendListeners(node_, families);
  AppendConfigured(node_, models, families);
  AppendGpus(*node_.cache, families);
  if (node_.keeper) {
    AppendKeeper(node_.keeper(), families);
  }
  GaugeFamily expiry("weightd_admin_certificate_expiry_timestamp_seconds",
                     "When the certificate for administration over TCP expires (Unix time).");
  if (const int64_t seconds = node_.admin_certificate_expiry(); seconds != 0) {
    expiry.Set({}, seconds);
  }
  std::move(expiry).AppendTo(families);
  GaugeFamily huge("weightd_huge_page_fraction",
                   "Part of the resident models' bytes in host memory that lies in huge pages.");
  if (const std::optional<double> fraction = huge_pages_.FractionOf(models, *node_.cache)) {
    huge.Set({}, *fraction);
  }
  std::move(huge).AppendTo(families);
  return families;
}

}  // namespace weightd::metrics
