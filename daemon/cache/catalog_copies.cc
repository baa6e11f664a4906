// Copies on GPUs, as the catalog knows them.

#include <cstdint>
#include <utility>
#include <vector>

#include "daemon/cache/catalog.h"

namespace weightd::cache {

void Catalog::AddCopy(EntryId id, SharedCopy segment, std::shared_ptr<void> kept) {
  const GpuId gpu = segment->gpu();
  gpu_orders_[gpu].Add(id, segment->bytes());
  At(id).copies[gpu] = {.segment = std::move(segment), .leases = 0, .kept = std::move(kept)};
}

SharedCopy Catalog::RemoveCopy(EntryId id, const GpuId& gpu) {
  auto copy = At(id).copies.extract(gpu);
  if (copy.empty()) {
    return nullptr;
  }
  gpu_orders_[gpu].Remove(id);
  return std::move(copy.mapped().segment);
}

std::vector<EntryId> Catalog::EntriesOn(const GpuId& gpu) const {
  std::vector<EntryId> on;
  for (const auto& [id, entry] : entries_) {
    if (entry.copies.contains(gpu)) {
      on.push_back(id);
    }
  }
  return on;
}

std::vector<EntryId> Catalog::EntriesOnlyOnGpus() const {
  std::vector<EntryId> found;
  for (const auto& [id, entry] : entries_) {
    if (!entry.on_host()) {
      found.push_back(id);
    }
  }
  return found;
}

std::vector<EntryId> Catalog::PickVictimsOn(const GpuId& gpu, uint64_t bytes,
                                            absl::FunctionRef<bool(const Entry&)> spared) const {
  const auto order = gpu_orders_.find(gpu);
  if (order == gpu_orders_.end()) {
    return {};
  }
  return order->second.PickVictims(bytes, [&](EntryId id) {
    const Entry& entry = entries_.at(id);
    const Record& record = *FindRecord(entry.uri);
    return !(record.pinned && record.current == id) && !spared(entry) &&
           (entry.on_host() || entry.holds == 0) && entry.copies.at(gpu).segment.use_count() == 1;
  });
}

}  // namespace weightd::cache
