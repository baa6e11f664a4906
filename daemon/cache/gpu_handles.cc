// How copies on GPUs are exported: as their model's placement says, also when it says otherwise
// than before.

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {

std::string NodeCache::MarkFor(const RevisionId& revision, device::Handles handles) const {
  return shelf_ != nullptr && handles == device::Handles::kDescriptor ? MarkOf(revision) : "";
}

absl::Status NodeCache::CheckHandles(const Uri& uri, device::Handles handles) const {
  const device::Handles placed = PlacementOf(uri).handles;
  return placed == handles
             ? absl::OkStatus()
             : Error(Reason::kPlacementDiffers,
                     absl::StrCat(
                         uri.Redacted(), " is placed with ",
                         placed == device::Handles::kLegacy ? "legacy handles" : "descriptors",
                         " now, and was exported otherwise"),
                     "ask again: it is copied anew");
}

void NodeCache::TakeOutOtherHandles() {
  if (gpus_ == nullptr) {
    return;
  }
  for (const device::GpuStatus& gpu : gpus_->List()) {
    for (const EntryId id : catalog_.EntriesOn(gpu.id)) {
      TakeOutOtherHandles(id, gpu.id);
    }
  }
}

void NodeCache::TakeOutOtherHandles(EntryId id, const GpuId& gpu) {
  const Entry* entry = catalog_.Find(id);
  if (entry == nullptr || entry->CopyOn(gpu) == nullptr || entry->copies.at(gpu).leases > 0) {
    return;
  }
  const absl::Status same = CheckHandles(entry->uri, entry->CopyOn(gpu)->handles());
  if (!same.ok()) {
    RememberIfLast(*entry, gpu);
    DropCopyLater(TakeCopyOut(id, gpu, same));
    KeepPlacedLater(gpu, same);
  }
}

void NodeCache::LeasesEnded(std::vector<LeaseTable::Ended> ended) {
  std::vector<std::pair<EntryId, GpuId>> copies;
  for (const LeaseTable::Ended& lease : ended) {
    if (lease.copy.has_value()) {
      copies.emplace_back(lease.entry, *lease.copy);
    }
  }
  EndLeases(std::move(ended));
  for (const auto& [id, gpu] : copies) {
    TakeOutOtherHandles(id, gpu);
  }
}

}  // namespace weightd::cache
