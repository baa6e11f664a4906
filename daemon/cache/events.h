#ifndef WEIGHTD_DAEMON_CACHE_EVENTS_H_
#define WEIGHTD_DAEMON_CACHE_EVENTS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/cache/holder.h"
#include "daemon/pipeline/progress.h"

namespace weightd::cache {

// The values are those of Event.Kind in proto/weightd/v1/admin.proto.
enum class EventKind {
  kLoadStarted = 1,
  kLoadFinished = 2,
  kLoadFailed = 3,
  kLeaseGranted = 4,
  kLeaseEnded = 5,
  kEvicted = 6,
  kDrained = 7,
  kPinned = 8,
  kUnpinned = 9,
  kSuperseded = 10,
  kStale = 11,
  kGpuCopied = 12,
  kGpuDropped = 13,
  // Of no model.
  kGpuLost = 14,
  // An earlier daemon loaded it.
  kReadopted = 15,
  // What an earlier daemon left is not what it should be; of no model if that isn't known.
  kNotReadopted = 16,
  // The next daemon will have to load it again, or to make its copy on that GPU.
  kNotKept = 17,
  // These are of no model: no load starts any more; none runs, and so many bytes are there for the
  // next daemon; loads start again.
  kNodeDraining = 18,
  kNodeDrained = 19,
  kNodeResumed = 20,
};

// What the next daemon will find in the store, as far as that has confirmed to have it, and what it
// will have to load again.
struct HandedOver {
  uint64_t kept_models = 0;
  uint64_t kept_bytes = 0;
  uint64_t lost_models = 0;
  // The store has done all that it was asked for.
  bool confirmed = false;
};

struct Event {
  absl::Time time;
  EventKind kind;
  Uri uri;
  RevisionId revision;
  LeaseId lease;
  uint64_t bytes = 0;
  absl::Status error;
  std::optional<GpuId> gpu = {};
  // How long a load took that ended, or a client waited for its lease.
  std::optional<absl::Duration> took = {};
  // Of a load that ended: how much of it was spent in each phase.
  std::vector<std::pair<pipeline::Phase, absl::Duration>> phases = {};
  // Of leases: whose client.
  std::string listener = {};
  // Of leases granted: the model was there when it was asked for.
  bool was_resident = false;
  // Of loads and of leases granted: the call that set it off, empty if none did.
  std::string request_id = {};
  // Of loads: whose call that was; none if an operator or the daemon itself set it off.
  std::optional<Holder> client = {};
  // Of what was not readopted: an operator had pinned it.
  bool pin_lost = false;
  // Of what was not readopted: so many descriptors that are of no model.
  uint64_t unknown_descriptors = 0;
  // Of a node that is drained.
  std::optional<HandedOver> handed = {};
};

// Passes events on to whoever listens at the moment. Thread-safe.
class EventLog {
 public:
  // Stops listening when it dies; afterwards the sink is not called again.
  class Subscription {
   public:
    Subscription(EventLog* log, uint64_t id) : log_(log), id_(id) {}
    ~Subscription();
    Subscription(const Subscription&) = delete;

   private:
    EventLog* const log_;
    const uint64_t id_;
  };

  // `sink` returns at once and calls nothing of the cache.
  std::unique_ptr<Subscription> Subscribe(std::function<void(const Event&)> sink);

  void Publish(const Event& event);

 private:
  absl::Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<uint64_t, std::function<void(const Event&)>> sinks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_EVENTS_H_
