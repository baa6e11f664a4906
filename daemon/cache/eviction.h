#ifndef WEIGHTD_DAEMON_CACHE_EVICTION_H_
#define WEIGHTD_DAEMON_CACHE_EVICTION_H_

#include <cstdint>
#include <list>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "common/ids.h"

namespace weightd::cache {

// Names one resident revision of the cache; never reused.
using EntryId = NumericId<struct EntryTag>;

// In which order resident revisions leave when room is needed. Each is on exactly one of two lists:
// in use (a lease or a pin holds it) or evictable, least recently used first. Only decides; frees
// nothing. Not thread-safe.
class EvictionOrder {
 public:
  // A new entry is evictable, and the most recently used one.
  void Add(EntryId id, uint64_t bytes);
  void Remove(EntryId id);

  // Holds are counted. The last one to go makes the entry the most recently used evictable one.
  void Hold(EntryId id);
  void Unhold(EntryId id);
  // Of a hold that was no use: the entry is as recently used as before.
  void UnholdUnused(EntryId id);

  bool InUse(EntryId id) const;

  // Evictable entries that together have at least `bytes`, as few bytes more as the order allows:
  // the least recently used ones first, less those that the others make superfluous. Considers only
  // entries for which `comes_free` holds. Nothing if even all of them are too little.
  std::vector<EntryId> PickVictims(uint64_t bytes,
                                   absl::FunctionRef<bool(EntryId)> comes_free) const;

 private:
  struct Place {
    uint64_t bytes = 0;
    int holds = 0;
    // Grows with each use.
    uint64_t turn = 0;
    std::list<EntryId>::iterator position;
  };

  uint64_t last_turn_ = 0;
  // Oldest at the front; of the evictable ones that is the lowest turn.
  std::list<EntryId> in_use_;
  std::list<EntryId> evictable_;
  absl::flat_hash_map<EntryId, Place> places_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_EVICTION_H_
