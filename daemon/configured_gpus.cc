#include "daemon/configured_gpus.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "common/gpu_id.h"
#include "common/status.h"
#include "common/uri.h"
#include "daemon/config_numbers.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

void AddOnce(const GpuId& gpu, std::vector<GpuId>& gpus) {
  if (std::find(gpus.begin(), gpus.end(), gpu) == gpus.end()) {
    gpus.push_back(gpu);
  }
}

std::vector<GpuId> GpusOf(const v1::ModelConfig& model, const device::Gpus& gpus) {
  std::vector<GpuId> placed;
  for (const std::string& name : model.placement().gpus()) {
    if (name == "all") {
      for (const device::GpuStatus& gpu : gpus.List()) {
        AddOnce(gpu.id, placed);
      }
    } else if (const absl::StatusOr<GpuId> gpu = gpus.Find(name); gpu.ok()) {
      AddOnce(*gpu, placed);
    } else {
      Log(LogLevel::kWarning, "placement.gpu_unknown",
          {{"model", model.name()}, {"gpu", name}, {"error", gpu.status().message()}});
    }
  }
  return placed;
}

}  // namespace

device::GpusOptions GpusOptionsOf(const v1::Config& config) {
  const v1::GpuConfig& gpu = config.gpu();
  device::GpusOptions options;
  options.driver = gpu.driver();
  const GpuBudget budget = ParseGpuBudget(gpu.budget()).value_or(GpuBudget());
  options.budget_bytes = budget.bytes;
  options.budget_fraction = budget.fraction;
  for (const v1::GpuBudgetConfig& one : gpu.budgets()) {
    const std::optional<GpuBudget> bytes = ParseGpuBudget(one.budget());
    options.budgets.emplace_back(one.gpu(), bytes.value_or(GpuBudget()).bytes.value_or(0));
  }
  options.reserve = gpu.reserve();
  options.ring = gpu.ring();
  return options;
}

absl::StatusOr<cache::Placements> PlacementsOf(const v1::Config& config, const device::Gpus& gpus) {
  cache::Placements placements;
  for (const v1::ModelConfig& model : config.models()) {
    if (!model.has_placement()) {
      continue;
    }
    ASSIGN_OR_RETURN(const Uri uri, Uri::Parse(model.uri()));
    cache::Placement placement;
    placement.host = !model.placement().gpu_only();
    placement.gpus = GpusOf(model, gpus);
    if (model.placement().handles() == "legacy") {
      placement.handles = device::Handles::kLegacy;
    }
    placements[uri.ToString()] = std::move(placement);
  }
  return placements;
}

void LogGpus(const device::Gpus& gpus) {
  const std::vector<device::GpuStatus> found = gpus.List();
  if (found.empty()) {
    Log(LogLevel::kInfo, "gpu.none", {{"reason", gpus.why_none().message()}});
  }
  for (const device::GpuStatus& gpu : found) {
    Log(LogLevel::kInfo, "gpu.found",
        {{"gpu", gpu.id.ToText()},
         {"index", static_cast<uint64_t>(gpu.index)},
         {"name", gpu.name},
         {"bytes", gpu.total_bytes},
         {"budget_bytes", gpu.usage.budget}});
  }
}

}  // namespace weightd
