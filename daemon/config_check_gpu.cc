#include "daemon/config_check_gpu.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/gpu_id.h"
#include "common/status.h"
#include "daemon/config_numbers.h"
#include "daemon/config_values.h"

namespace weightd {
namespace {

constexpr absl::string_view kAllGpus = "all";
constexpr size_t kLongestIndex = 3;
constexpr uint64_t kLeastBudget = 2 << 20;  // one allocation
constexpr uint64_t kMostBudget = uint64_t{1} << 50;
constexpr uint64_t kLeastRing = 16 << 20;
constexpr uint64_t kMostRing = uint64_t{4} << 30;

bool IsGpu(absl::string_view name) {
  const bool is_index =
      !name.empty() && name.size() <= kLongestIndex && absl::c_all_of(name, absl::ascii_isdigit);
  return is_index || GpuId::FromText(name).ok();
}

absl::Status CheckBytes(const GpuBudget& budget, absl::string_view path, const FieldLines& lines) {
  if (!budget.bytes.has_value() ||
      (*budget.bytes >= kLeastBudget && *budget.bytes <= kMostBudget)) {
    return absl::OkStatus();
  }
  return lines.ErrorAt(path, "must be from 2MiB to 1024TiB");
}

absl::Status CheckBudgets(const v1::GpuConfig& gpu, const FieldLines& lines) {
  absl::flat_hash_set<std::string> named;
  for (int i = 0; i < gpu.budgets_size(); ++i) {
    const v1::GpuBudgetConfig& one = gpu.budgets(i);
    const std::string path = absl::StrCat("gpu.budgets[", i, "]");
    if (!IsGpu(one.gpu())) {
      return lines.ErrorAt(path + ".gpu", "not a GPU",
                           "write its index, or its UUID as nvidia-smi -L prints it");
    }
    if (!named.insert(one.gpu()).second) {
      return lines.ErrorAt(path + ".gpu", "named before");
    }
    const std::optional<GpuBudget> budget = ParseGpuBudget(one.budget());
    if (!budget.has_value() || !budget->bytes.has_value()) {
      return lines.ErrorAt(path + ".budget", "not a size", "write bytes, such as 40GiB");
    }
    RETURN_IF_ERROR(CheckBytes(*budget, path + ".budget", lines));
  }
  return absl::OkStatus();
}

// Whether two placements say the same of the same GPUs, in whatever order.
bool Same(const v1::PlacementConfig& a, const v1::PlacementConfig& b) {
  const std::set<std::string> gpus_of_a(a.gpus().begin(), a.gpus().end());
  const std::set<std::string> gpus_of_b(b.gpus().begin(), b.gpus().end());
  return gpus_of_a == gpus_of_b && a.gpu_only() == b.gpu_only() && a.handles() == b.handles();
}

}  // namespace

absl::Status CheckGpu(const v1::GpuConfig& gpu, const FieldLines& lines) {
  const std::optional<GpuBudget> budget = ParseGpuBudget(gpu.budget());
  if (!budget.has_value()) {
    return lines.ErrorAt("gpu.budget", "neither a size nor a part from 1% to 100%",
                         "write bytes such as 40GiB, or a part of each GPU's memory such as 50%");
  }
  RETURN_IF_ERROR(CheckBytes(*budget, "gpu.budget", lines));
  RETURN_IF_ERROR(CheckBudgets(gpu, lines));
  if (gpu.reserve() > kMostBudget) {
    return lines.ErrorAt("gpu.reserve", "must be at most 1024TiB");
  }
  if (gpu.ring() < kLeastRing || gpu.ring() > kMostRing) {
    return lines.ErrorAt("gpu.ring", "must be from 16MiB to 4GiB");
  }
  return absl::OkStatus();
}

absl::Status CheckPlacement(const v1::ModelConfig& model, const Uri& uri, const std::string& path,
                            Placements& placements, const FieldLines& lines) {
  if (!model.has_placement()) {
    return absl::OkStatus();
  }
  const v1::PlacementConfig& placement = model.placement();
  const std::string place = path + ".placement";
  for (int i = 0; i < placement.gpus_size(); ++i) {
    if (placement.gpus(i) != kAllGpus && !IsGpu(placement.gpus(i))) {
      return lines.ErrorAt(absl::StrCat(place, ".gpus[", i, "]"), "not a GPU",
                           "write \"all\", an index, or a UUID as nvidia-smi -L prints it");
    }
  }
  RETURN_IF_ERROR(
      CheckOneOf(placement.handles(), {"descriptor", "legacy"}, place + ".handles", lines));
  if (placement.gpus().empty() && placement.gpu_only()) {
    return lines.ErrorAt(place + ".gpu_only", "names no GPU",
                         "list GPUs under placement.gpus, or \"all\"");
  }
  if (placement.gpus().empty() && placement.handles() == "legacy") {
    return lines.ErrorAt(place + ".handles", "names no GPU",
                         "list GPUs under placement.gpus, or \"all\"");
  }
  const auto [first, added] = placements.emplace(uri.ToString(), placement);
  if (!added && !Same(first->second, placement)) {
    return lines.ErrorAt(place, "another model of this URI is placed otherwise",
                         "place a URI in one way");
  }
  return absl::OkStatus();
}

}  // namespace weightd
