#ifndef WEIGHTD_DAEMON_CACHE_DEPARTURES_H_
#define WEIGHTD_DAEMON_CACHE_DEPARTURES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/cache/catalog.h"
#include "daemon/cache/events.h"
#include "daemon/cache/shelf.h"
#include "daemon/cache/workers.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"

namespace weightd::cache {

// A model that was taken out of the catalog.
struct Departure {
  Uri uri;
  SharedModel model;
};

// Drops models that left the cache, and publishes kDrained when their memory is back: at once, or
// when the last client has let go of it. Thread-safe.
class Departures {
 public:
  // All outlive it. `shelf` may be null: what leaves is nowhere else.
  Departures(host::HostTier* tier, EventLog* events, Shelf* shelf);

  // To be called in the step that takes the model out, so that its memory is never overlooked: from
  // here on it counts as being freed. To be followed by one of the two below.
  Departure Announce(const Uri& uri, SharedModel model) ABSL_LOCKS_EXCLUDED(mutex_);

  // Freeing a large model takes a while (up to a second per GiB of small pages): for a load's
  // thread that needs the memory, and holds no lock but the search for room's.
  void Drop(std::vector<Departure> departures) ABSL_LOCKS_EXCLUDED(mutex_);
  // On a thread of its own.
  void DropLater(Departure departure);

  // Segments of no model: what an earlier daemon left and nobody is granted any more.
  void FreeLater(std::vector<std::shared_ptr<host::HostSegment>> segments)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Looks, on that thread too, which memory is back.
  void CollectLater() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether there is any to wait for.
  bool Waiting() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether some is being freed right now.
  bool Freeing() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Models freed so far.
  uint64_t freed() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Drops what is left, and stops the thread.
  void Stop() { thread_.Stop(); }

 private:
  void Collect() ABSL_LOCKS_EXCLUDED(mutex_);
  // Their memory is free now, whoever else kept it.
  void Freed(size_t models) ABSL_LOCKS_EXCLUDED(mutex_);

  // Its memory is back once nobody here holds a segment of it, and the tier knows none that drains.
  struct Leaving {
    Uri uri;
    RevisionId revision;
    uint64_t bytes = 0;
    std::weak_ptr<const host::HostSegment> weights;
    std::weak_ptr<const host::HostSegment> encoded_index;
    std::weak_ptr<const host::HostSegment> small_files;
  };

  host::HostTier* const tier_;
  EventLog* const events_;
  Shelf* const shelf_;
  mutable absl::Mutex mutex_;
  std::vector<Leaving> leaving_ ABSL_GUARDED_BY(mutex_);
  // Models that were announced, but not yet dropped.
  size_t freeing_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t freed_ ABSL_GUARDED_BY(mutex_) = 0;
  // Whether a look is queued.
  bool look_queued_ ABSL_GUARDED_BY(mutex_) = false;
  Workers thread_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_DEPARTURES_H_
