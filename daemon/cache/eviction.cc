#include "daemon/cache/eviction.h"

#include <algorithm>

namespace weightd::cache {

void EvictionOrder::Add(EntryId id, uint64_t bytes) {
  const auto position = evictable_.insert(evictable_.end(), id);
  places_[id] = {.bytes = bytes, .holds = 0, .turn = ++last_turn_, .position = position};
}

void EvictionOrder::Remove(EntryId id) {
  const auto found = places_.find(id);
  (found->second.holds > 0 ? in_use_ : evictable_).erase(found->second.position);
  places_.erase(found);
}

void EvictionOrder::Hold(EntryId id) {
  Place& place = places_.at(id);
  if (place.holds++ == 0) {
    in_use_.splice(in_use_.end(), evictable_, place.position);
  }
}

void EvictionOrder::Unhold(EntryId id) {
  Place& place = places_.at(id);
  place.turn = ++last_turn_;
  if (--place.holds == 0) {
    evictable_.splice(evictable_.end(), in_use_, place.position);
  }
}

void EvictionOrder::UnholdUnused(EntryId id) {
  Place& place = places_.at(id);
  if (--place.holds == 0) {
    const auto later = std::find_if(evictable_.begin(), evictable_.end(), [&](EntryId other) {
      return places_.at(other).turn > place.turn;
    });
    evictable_.splice(later, in_use_, place.position);
  }
}

bool EvictionOrder::InUse(EntryId id) const { return places_.at(id).holds > 0; }

std::vector<EntryId> EvictionOrder::PickVictims(uint64_t bytes,
                                                absl::FunctionRef<bool(EntryId)> comes_free) const {
  std::vector<EntryId> victims;
  uint64_t total = 0;
  for (auto id = evictable_.begin(); id != evictable_.end() && total < bytes; ++id) {
    if (comes_free(*id)) {
      victims.push_back(*id);
      total += places_.at(*id).bytes;
    }
  }
  if (total < bytes) {
    return {};
  }
  // A small old entry need not go when a large younger one makes room enough; the youngest are
  // spared first.
  for (size_t i = victims.size(); i-- > 0;) {
    const uint64_t size = places_.at(victims[i]).bytes;
    if (total - size >= bytes) {
      total -= size;
      victims.erase(victims.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return victims;
}

}  // namespace weightd::cache
