// Copies on GPUs, as the catalog knows them.

#include <algorithm>
#include <cstdint>
#include <optional>
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

void Catalog::AddLeft(EntryId id, LeftCopy left) {
  const GpuId gpu = left.gpu;
  At(id).left[gpu] = std::move(left);
}

std::optional<LeftCopy> Catalog::TakeLeft(EntryId id, const GpuId& gpu) {
  auto left = At(id).left.extract(gpu);
  return left.empty() ? std::nullopt : std::optional(std::move(left.mapped()));
}

std::vector<EntryId> Catalog::EntriesLeftOn(const GpuId& gpu) const {
  std::vector<EntryId> on;
  for (const auto& [id, entry] : entries_) {
    if (entry.left.contains(gpu)) {
      on.push_back(id);
    }
  }
  return on;
}

std::vector<std::pair<EntryId, GpuId>> Catalog::LeftDueBy(absl::Duration uptime) const {
  std::vector<std::pair<EntryId, GpuId>> due;
  for (const auto& [id, entry] : entries_) {
    for (const auto& [gpu, left] : entry.left) {
      if (left.again_at <= uptime) {
        due.emplace_back(id, gpu);
      }
    }
  }
  return due;
}

absl::Duration Catalog::NextLeftDue() const {
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& [id, entry] : entries_) {
    for (const auto& [gpu, left] : entry.left) {
      next = std::min(next, left.again_at);
    }
  }
  return next;
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
