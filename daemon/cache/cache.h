#ifndef WEIGHTD_DAEMON_CACHE_CACHE_H_
#define WEIGHTD_DAEMON_CACHE_CACHE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "common/pins.h"
#include "common/uri.h"
#include "daemon/cache/card_facts.h"
#include "daemon/cache/events.h"
#include "daemon/cache/holder.h"
#include "daemon/cache/snapshots.h"
#include "daemon/device/gpus.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/loader.h"
#include "daemon/pipeline/model.h"
#include "daemon/pipeline/model_key.h"
#include "daemon/source/source.h"

namespace weightd::cache {

// Where a model is kept.
struct Placement {
  // A model that is only on GPUs is not granted in host memory.
  bool host = true;
  std::vector<GpuId> gpus = {};
  device::Handles handles = device::Handles::kDescriptor;

  friend bool operator==(const Placement&, const Placement&) = default;
};

// By URI; models that are not named are kept in host memory.
using Placements = std::map<std::string, Placement>;

struct CacheOptions {
  // How often a resident model that is asked for is compared with its source, in the background.
  // Zero: at every attach. InfiniteDuration: never.
  absl::Duration revalidate = absl::Seconds(60);
  // A lease that nobody claims ends after this.
  absl::Duration unclaimed_lease = absl::Seconds(30);
  // Loads that run at once; further ones queue.
  int max_loads = 8;
  Placements placements = {};
  // By listener: host bytes that its clients may hold together, see HeldBytes. Those that are not
  // named here have no limit.
  std::map<std::string, uint64_t, std::less<>> quotas = {};
  // Where models, in host memory and on GPUs, are kept beyond this process, and how they are
  // written down and read; null: nowhere. Outlives the cache and the tier.
  fd_store::FdStore* fd_store = nullptr;
  // Tells what is ours there from others', see OwnerMark.
  std::string store_mark = {};
  EncodeCard encode_card = {};
  DecodeCard decode_card = {};
  pipeline::DecodeIndex decode_index = {};
  // Whether the config wants the model pinned; thread-safe.
  std::function<bool(const Uri&)> pinned_by_config = {};
  // How closely the config has the model's checksums looked at; thread-safe.
  std::function<pipeline::VerifyPolicy(const Uri&)> verify_of = [](const Uri&) {
    return pipeline::VerifyPolicy::kFast;
  };
  // What the config says that the model's files have to be: nobody is granted anything else,
  // whoever loaded it, and when; thread-safe.
  std::function<Pins(const Uri&)> pins_of = [](const Uri&) { return Pins(); };
};

// Where on this node's GPUs a client wants a model.
struct DeviceRequest {
  GpuId gpu;
  // A copy of its own.
  bool is_private = false;
  // kPlacementDiffers unless the model is placed with legacy handles.
  bool legacy = false;
};

struct AcquireRequest {
  Uri uri;
  source::ReadPolicy policy;
  // Load it if it isn't resident; else kModelNotResident.
  bool may_load = false;
  // A revision's hexadecimal digits, whole or at least the first 8; empty: the current one.
  std::string revision;
  // What files have to be; kVerificationFailed if one is not. Compared with what is known of a
  // resident model, else with its sealed bytes, before it is granted.
  Pins pins = {};
  // In host memory if there is none.
  std::optional<DeviceRequest> device = {};
  Holder holder;
  // What the log calls it; empty if nobody asked the daemon.
  std::string request_id = {};
};

struct PreloadRequest {
  Uri uri;
  source::ReadPolicy policy;
  // Pinned by these once it is resident and, by `pins`, verified.
  bool pin = false;
  Pinner pinner = Pinner::kOperator;
  // Else kModelNotResident unless it is resident.
  bool may_load = true;
  // Also when the wait dies; else, unless others wait, the load is cancelled then.
  bool goes_on = true;
  Pins pins = {};
  // Opens the model, should this have to load it; none: as the loader was told. Not looked at if
  // the model is resident, or another's load makes it so first. Held until `done` was called and
  // the load that it is for has ended, and no longer.
  std::optional<pipeline::ModelKey> key = {};
  // Also to these, beside the model's placement. `done` is called when it is there, too.
  std::vector<GpuId> gpus = {};
  // What the log calls it; empty if nobody asked the daemon.
  std::string request_id = {};
};

// Host bytes that the clients of one listener hold: what is charged for models that they lease,
// each once, on whatever tier the leases are, and for models that they let go of and still map.
// The kernel tells that somebody maps a model, not who: among those who were given it.
struct HeldBytes {
  uint64_t leased = 0;
  uint64_t draining = 0;
  // What both together may be; none: no limit.
  std::optional<uint64_t> quota = {};
};

// Both are called without any lock of the cache held, one at a time; `done` at most once and last.
// They are called from threads of the cache, or, where the answer is known at once, from the caller
// of Acquire before it returns. They return quickly; of the cache they may call Release, Claim and
// EndSession.
struct AcquireCallbacks {
  std::function<void(const ProgressSnapshot&)> progress;
  std::function<void(absl::StatusOr<Grant>)> done;
};

struct PreloadCallbacks {
  std::function<void(const ProgressSnapshot&)> progress;
  std::function<void(absl::StatusOr<ModelSnapshot>)> done;
};

// An interest in a load. When it dies before `done`, the callbacks run no more (it waits for one
// that runs, unless that is the caller itself), and a load that nobody else waits for is cancelled,
// unless it is a preload that goes on.
class Wait {
 public:
  virtual ~Wait() = default;
};

// What a client is handed for a lease.
struct ClaimedHandle {
  // The values are those of Handle.Kind in proto/weightd/v1/handles.proto.
  enum class Kind { kHostSegment = 1, kTensorIndex = 2, kDeviceSegment = 3, kSmallFiles = 4 };
  Kind kind;
  Fd fd;
  uint64_t bytes = 0;
};

// What the eviction gives back in a moment, on a thread of the cache (kDrained tells when), and
// what only when clients have let go of it.
struct EvictResult {
  uint64_t freed_bytes = 0;
  uint64_t draining_bytes = 0;
};

// Of loads that ran when no further ones were to start.
struct StoppedLoads {
  uint64_t ended = 0;    // by themselves, loaded or failed
  uint64_t stopped = 0;  // by whoever it was
};

// Which models are on the node and who holds them: states, single flight, leases, eviction,
// revalidation.
//
// States of a revision: absent -> loading -> resident -> draining -> absent. A failed load is
// absent again with its error kept. A resident revision is on exactly one of two lists, in use or
// evictable; the least recently used evictable one is the first victim. Lock order: cache -> leases
// -> tier; no lock is held while a source, a disk or a callback is waited for.
//
// Thread-safe. Owns its threads: loads, a ticker (unclaimed leases, drained segments, progress),
// revalidation.
class Cache {
 public:
  // `loader` and `gpus` outlive it; without `gpus` the node has none.
  static std::unique_ptr<Cache> Create(CacheOptions options, std::shared_ptr<host::HostTier> tier,
                                       pipeline::ModelLoader* loader, device::Gpus* gpus = nullptr);
  // Cancels all loads and waits for them. All waits were destroyed before, or get kShuttingDown.
  virtual ~Cache() = default;

  // Makes models of what an earlier daemon left in the store, and later of what the store had not
  // given by then, but for those that are here or being loaded by that time. Once, before anybody
  // is served, and before placements and promises of the config are told. Reads no model's bytes:
  // takes milliseconds.
  virtual void Readopt(std::vector<fd_store::StoredFd> stored) = 0;

  // From now on until ResumeLoads no load starts, whoever asks for it: kShuttingDown, for which
  // clients wait for the next daemon. Those that run may go on until `deadline`, then they are
  // stopped. Blocks until none runs, but at the end for a few seconds only, for a source that takes
  // no notice. Of several calls the last one's deadline counts: an earlier one returns kCancelled
  // if loads still run at its own, and when loads were resumed meanwhile.
  virtual absl::StatusOr<StoppedLoads> StopLoads(absl::Time deadline) = 0;
  // The same at once and for good, for a daemon that ends.
  virtual StoppedLoads StopLoadsForGood() = 0;
  // Whether they were stopped. kShuttingDown if that is for good.
  virtual absl::StatusOr<bool> ResumeLoads() = 0;
  virtual bool LoadsStopped() const = 0;
  // Waits until `deadline` for the store to have what the next daemon is to find; tells what it has
  // (kNodeDrained, too).
  virtual HandedOver HandOver(absl::Time deadline) = 0;

  // For clients. A resident model is granted at once, from the calling thread, without asking the
  // source. kQuotaExceeded if the listener's clients would hold more than they may; where that is
  // known before a load moves bytes, before.
  virtual std::unique_ptr<Wait> Acquire(AcquireRequest request, AcquireCallbacks callbacks) = 0;
  // kLeaseUnknown if that session doesn't hold it. OK for one that ended by a forced eviction.
  virtual absl::Status Release(SessionId session, LeaseId lease) = 0;
  // Ends every lease of the session, and what it still waits for with kSessionInvalid. Nothing is
  // asked for it afterwards.
  virtual void EndSession(SessionId session) = 0;
  // New descriptors for a lease of that session: of the bytes, unless the grant had a legacy
  // handle, of the tensor index, and of the small files if there are any. A private copy is claimed
  // once.
  virtual absl::StatusOr<std::vector<ClaimedHandle>> Claim(SessionId session, LeaseId lease) = 0;

  // For operators and the config.
  virtual std::unique_ptr<Wait> Preload(PreloadRequest request, PreloadCallbacks callbacks) = 0;
  // kModelNotResident, kModelInUse (leased and not `force`), kModelPinned (and not `force`).
  // Cancels a running load.
  virtual absl::StatusOr<EvictResult> Evict(const Uri& uri, bool force) = 0;
  // Only its copy on that GPU. A model that is nowhere else leaves.
  virtual absl::StatusOr<EvictResult> EvictFromGpu(const Uri& uri, const GpuId& gpu,
                                                   bool force) = 0;
  // An operator's unpin ends the config's pin, too.
  virtual absl::StatusOr<ModelSnapshot> Pin(const Uri& uri, bool pinned) = 0;

  // For the config, whose model list may change. The pin that it wants; an operator's stays.
  // Nothing for a model that is not resident.
  virtual void PinForConfig(const Uri& uri, bool pinned) = 0;
  // A model that isn't pinned leaves: at once, or when its last lease ends. Not if it is preloaded
  // or pinned before that.
  virtual void LetGo(const Uri& uri) = 0;
  // Resident models get the copies that are missing then. Copies that are placed no longer stay
  // until they are evicted.
  virtual void SetPlacements(Placements placements) = 0;

  // Ordered by model, then by load time.
  virtual std::vector<ModelSnapshot> Models() const = 0;
  // The current revision of a model, its running load, or its last error; kModelNotResident if
  // there is none.
  virtual absl::StatusOr<ModelSnapshot> Model(const Uri& uri) const = 0;
  // With its index; kModelNotResident unless resident.
  virtual absl::StatusOr<std::shared_ptr<const pipeline::ResidentModel>> Resident(
      const Uri& uri) const = 0;
  virtual std::vector<LeaseSnapshot> Leases() const = 0;
  virtual HeldBytes HeldBy(absl::string_view listener) const = 0;
  virtual host::HostUsage Usage() const = 0;
  virtual std::vector<host::DrainingSegment> Draining() const = 0;
  virtual uint32_t LoadsRunning() const = 0;
  virtual ReadoptionSnapshot Readoption() const = 0;

  // Drops every copy on the GPU and ends our process there; returns the bytes that were ours.
  // kModelInUse if one is leased and not `force`. Blocks until the process is gone.
  virtual absl::StatusOr<uint64_t> DrainGpu(const GpuId& gpu, bool force) = 0;
  // Models that are placed there come back.
  virtual absl::Status ResumeGpu(const GpuId& gpu) = 0;
  virtual std::vector<device::GpuStatus> Gpus() const = 0;
  // As device::Gpus::Find.
  virtual absl::StatusOr<GpuId> FindGpu(absl::string_view name) const = 0;

  virtual EventLog& events() = 0;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_CACHE_H_
