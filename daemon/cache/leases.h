#ifndef WEIGHTD_DAEMON_CACHE_LEASES_H_
#define WEIGHTD_DAEMON_CACHE_LEASES_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/cache/eviction.h"
#include "daemon/cache/holder.h"
#include "daemon/cache/snapshots.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/model.h"

namespace weightd::cache {

// Who holds what. A lease belongs to one session and keeps the bytes of its revision alive; its
// number is never given to another one. Ending a lease returns what it was on, so that the cache
// can count: the table knows nothing of states. Thread-safe; its lock comes after the cache's.
class LeaseTable {
 public:
  // What one session may hold at once, revoked ones that it didn't give back included. Each lease
  // takes memory of ours, which no budget counts, however often it is one of the same model.
  static constexpr size_t kMostOfSession = 4096;

  struct Ended {
    LeaseId lease;
    // 0 if it was revoked before.
    EntryId entry;
    // Of the entry's copy that it was on, if it was on one.
    std::optional<GpuId> copy = {};
    // What nobody holds for it any more: to be dropped without a lock.
    std::shared_ptr<device::Segment> segment = {};
    std::string listener = {};
  };

  // What a lease is on.
  struct Held {
    std::shared_ptr<const pipeline::ResidentModel> model;
    // Null: on the bytes in host memory.
    std::shared_ptr<device::Segment> segment;
    std::string listener;
  };

  // kTooManyRequests if `session` holds all that it may.
  absl::Status CheckRoom(SessionId session) const;
  // `now` is what is shown, `uptime` what unclaimed leases are timed by.
  LeaseId Grant(const Holder& holder, EntryId entry, const Uri& uri,
                std::shared_ptr<const pipeline::ResidentModel> model,
                std::shared_ptr<device::Segment> segment, absl::Time now, absl::Duration uptime);

  // kLeaseUnknown unless `session` has `lease`. A revoked lease is forgotten, and ended no entry.
  absl::StatusOr<Ended> Release(SessionId session, LeaseId lease);
  std::vector<Ended> EndSession(SessionId session);
  // Leases granted at the uptime `latest` or before that nobody claimed.
  std::vector<Ended> ExpireUnclaimed(absl::Duration latest);
  // Ends all leases on `entry` from our side; with `gpu` only those on its copy there. The sessions
  // keep the numbers, good for Release only, and what they map of a GPU counts as theirs till then.
  std::vector<Ended> Revoke(EntryId entry, const std::optional<GpuId>& gpu = std::nullopt);

  // Ends those on private copies of a GPU whose worker ends: what no client has taken is lost.
  std::vector<Ended> RevokePrivateOn(const GpuId& gpu);

  // Also kLeaseUnknown once revoked.
  absl::StatusOr<Held> Find(SessionId session, LeaseId lease) const;
  absl::Status MarkClaimed(SessionId session, LeaseId lease);

  // The uptime when the oldest lease was granted that may be unclaimed; InfiniteDuration if there
  // is none.
  absl::Duration OldestUnclaimed() const;
  // Ordered by lease.
  std::vector<LeaseSnapshot> Snapshots() const;

  // What is charged to the host tier for the entries that a listener's clients lease, each once.
  uint64_t LeasedBytes(absl::string_view listener) const;
  // Whether one of them leases that entry.
  bool Leases(absl::string_view listener, EntryId entry) const;

 private:
  struct Lease {
    SessionId session;
    EntryId entry;
    LeaseSnapshot snapshot;
    // None: revoked.
    std::shared_ptr<const pipeline::ResidentModel> model;
    std::shared_ptr<device::Segment> segment;
  };

  // What the clients of one listener lease.
  struct Holding {
    absl::flat_hash_map<EntryId, uint32_t> leases;
    uint64_t bytes = 0;
  };

  Ended Erase(absl::btree_map<LeaseId, Lease>::iterator lease)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of a lease that is granted, and of one that ends or is revoked; with its model.
  void Count(const Lease& lease) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Uncount(const Lease& lease) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::btree_map<LeaseId, Lease> leases_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<SessionId, absl::btree_set<LeaseId>> sessions_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<EntryId, absl::btree_set<LeaseId>> entries_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, Holding> holdings_ ABSL_GUARDED_BY(mutex_);
  // In the order of their grants; those that were claimed or ended since are skipped when their
  // turn comes.
  std::deque<std::pair<absl::Duration, LeaseId>> unclaimed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_LEASES_H_
