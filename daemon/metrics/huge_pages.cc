#include "daemon/metrics/huge_pages.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/host/host_segment.h"
#include "daemon/pipeline/model.h"

namespace weightd::metrics {
namespace {

// Nothing if it left meanwhile, is only on GPUs, or the kernel doesn't say.
std::optional<double> Ask(const cache::ModelSnapshot& model, const cache::Cache& cache) {
  const absl::StatusOr<std::shared_ptr<const pipeline::ResidentModel>> resident =
      cache.Resident(model.uri);
  if (!resident.ok() || (*resident)->index.revision != model.revision ||
      (*resident)->weights == nullptr) {
    return std::nullopt;
  }
  const absl::StatusOr<double> fraction = (*resident)->weights->HugePageFraction();
  return fraction.ok() ? std::optional(*fraction) : std::nullopt;
}

}  // namespace

std::optional<double> HugePages::FractionOf(const std::vector<cache::ModelSnapshot>& models,
                                            const cache::Cache& cache) {
  absl::MutexLock lock(&mutex_);
  Fractions still_there;
  double huge = 0;
  double all = 0;
  for (const cache::ModelSnapshot& model : models) {
    if (model.state != cache::ModelState::kResident) {
      continue;
    }
    std::string key = absl::StrCat(model.uri.ToString(), " ", model.revision.hex(), " ",
                                   absl::ToUnixNanos(model.loaded_at));
    const auto known = known_.find(key);
    const std::optional<double> fraction =
        known != known_.end() ? std::optional(known->second) : Ask(model, cache);
    if (fraction.has_value()) {
      const auto bytes = static_cast<double>(model.host_bytes);
      huge += *fraction * bytes;
      all += bytes;
      still_there.emplace(std::move(key), *fraction);
    }
  }
  known_ = std::move(still_there);
  return all > 0 ? std::optional(huge / all) : std::nullopt;
}

}  // namespace weightd::metrics
