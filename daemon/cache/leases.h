#ifndef WEIGHTD_DAEMON_CACHE_LEASES_H_
#define WEIGHTD_DAEMON_CACHE_LEASES_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/cache/eviction.h"
#include "daemon/cache/holder.h"
#include "daemon/cache/snapshots.h"
#include "daemon/pipeline/model.h"

namespace weightd::cache {

// Who holds what. A lease belongs to one session and keeps the bytes of its revision alive; its
// number is never given to another one. Ending a lease returns what it was on, so that the cache
// can count: the table knows nothing of states. Thread-safe; its lock comes after the cache's.
class LeaseTable {
 public:
  struct Ended {
    LeaseId lease;
    EntryId entry;
  };

  // What a lease is on.
  struct Held {
    std::shared_ptr<const pipeline::ResidentModel> model;
    std::string listener;
  };

  // `now` is what is shown, `uptime` what unclaimed leases are timed by.
  LeaseId Grant(const Holder& holder, EntryId entry, const Uri& uri,
                std::shared_ptr<const pipeline::ResidentModel> model, absl::Time now,
                absl::Duration uptime);

  // kLeaseUnknown unless `session` has `lease`. A revoked lease is forgotten, and ended no entry.
  absl::StatusOr<Ended> Release(SessionId session, LeaseId lease);
  std::vector<Ended> EndSession(SessionId session);
  // Leases granted at the uptime `latest` or before that nobody claimed.
  std::vector<Ended> ExpireUnclaimed(absl::Duration latest);
  // Ends all leases on `entry` from our side. The sessions keep the numbers, good for Release only.
  std::vector<Ended> Revoke(EntryId entry);

  // Also kLeaseUnknown once revoked.
  absl::StatusOr<Held> Find(SessionId session, LeaseId lease) const;
  absl::Status MarkClaimed(SessionId session, LeaseId lease);

  // The uptime when the oldest lease was granted that may be unclaimed; InfiniteDuration if there
  // is none.
  absl::Duration OldestUnclaimed() const;
  // Ordered by lease.
  std::vector<LeaseSnapshot> Snapshots() const;

 private:
  struct Lease {
    SessionId session;
    EntryId entry;
    LeaseSnapshot snapshot;
    // None: revoked.
    std::shared_ptr<const pipeline::ResidentModel> model;
  };

  Ended Erase(absl::btree_map<LeaseId, Lease>::iterator lease)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::btree_map<LeaseId, Lease> leases_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<SessionId, absl::btree_set<LeaseId>> sessions_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<EntryId, absl::btree_set<LeaseId>> entries_ ABSL_GUARDED_BY(mutex_);
  // In the order of their grants; those that were claimed or ended since are skipped when their
  // turn comes.
  std::deque<std::pair<absl::Duration, LeaseId>> unclaimed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_LEASES_H_
