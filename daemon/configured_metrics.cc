#include "daemon/configured_metrics.h"

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "common/source_revision.h"
#include "common/uri.h"
#include "common/version.h"
#include "daemon/metrics/node.h"

namespace weightd {
namespace {

std::vector<metrics::ListenerState> ListenersOf(const std::vector<v1::ListenerStatus>& statuses) {
  std::vector<metrics::ListenerState> listeners;
  listeners.reserve(statuses.size());
  for (const v1::ListenerStatus& status : statuses) {
    listeners.push_back({.name = status.name(), .sessions = status.sessions()});
  }
  return listeners;
}

std::vector<metrics::ConfiguredModel> ModelsOf(const std::vector<v1::ConfiguredModel>& configured,
                                               const service::ModelNames& names) {
  std::vector<metrics::ConfiguredModel> models;
  models.reserve(configured.size());
  for (const v1::ConfiguredModel& model : configured) {
    // One that left the list meanwhile is nobody's name any more.
    if (absl::StatusOr<Uri> uri = names.Resolve(model.name()); uri.ok()) {
      models.push_back(
          {.name = model.name(),
           .uri = *std::move(uri),
           .state = absl::AsciiStrToLower(v1::ConfiguredModel::State_Name(model.state()))});
    }
  }
  return models;
}

metrics::KeeperState StateOf(const v1::KeeperStatus& keeper) {
  return {.reachable = keeper.reachable(),
          .stored = keeper.stored(),
          .pending = keeper.pending(),
          .refused = keeper.refused(),
          .others = keeper.others()};
}

}  // namespace

std::unique_ptr<metrics::Counters> MakeCounters(const v1::Config& config,
                                                const device::Gpus& gpus) {
  metrics::Counters::Known known;
  for (const v1::ListenerConfig& listener : config.listeners()) {
    known.listeners.push_back(listener.name());
  }
  for (const device::GpuStatus& gpu : gpus.List()) {
    known.gpus.push_back(gpu.id);
  }
  return std::make_unique<metrics::Counters>(known);
}

std::unique_ptr<metrics::Exposition> MakeExposition(Shown shown) {
  metrics::Node node;
  node.cache = shown.cache;
  node.listeners = [listeners = std::move(shown.listeners)] { return ListenersOf(listeners()); };
  node.models = [models = std::move(shown.models), names = shown.names] {
    return ModelsOf(models(), *names);
  };
  node.admin_certificate_expiry = std::move(shown.admin_certificate_expiry);
  if (shown.keeper) {
    node.keeper = [keeper = std::move(shown.keeper)] { return StateOf(keeper()); };
  }
  return std::make_unique<metrics::Exposition>(
      shown.counters, std::move(node),
      metrics::Build{
          .version = kVersion, .source_revision = SourceRevision(), .started = shown.started});
}

}  // namespace weightd
