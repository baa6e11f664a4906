#ifndef WEIGHTD_DAEMON_CACHE_NODE_CACHE_H_
#define WEIGHTD_DAEMON_CACHE_NODE_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/uptime.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/catalog.h"
#include "daemon/cache/departures.h"
#include "daemon/cache/flight.h"
#include "daemon/cache/gpu_workers.h"
#include "daemon/cache/leases.h"
#include "daemon/cache/left_copy.h"
#include "daemon/cache/loaded.h"
#include "daemon/cache/pin_check.h"
#include "daemon/cache/promotion.h"
#include "daemon/cache/shelf.h"
#include "daemon/cache/waiter.h"
#include "daemon/cache/workers.h"
#include "daemon/pipeline/model_key.h"

namespace weightd::cache {

absl::Status ShuttingDown();
absl::Status Drained(const GpuId& gpu);
absl::Status WorkerEnded(const GpuId& gpu);
struct NotReadopted;
struct Readopted;

// The Cache. Its parts, by file:
//   requests.cc      Acquire, Preload, leases
//   quotas.cc        what the clients of a listener hold, and may
//   pins.cc          pins of requests, compared with resident bytes
//   flights.cc       single flight: who wants which load, and how it ends
//   loads.cc         what a load's thread does
//   readopt.cc       models that an earlier daemon left, and that the next one will find
//   drain.cc         no further loads, before another daemon takes over
//   taking_back.cc   copies on GPUs that an earlier daemon left
//   room.cc          budget for a load: reserve, else evict
//   gpu_copies.cc    copies on GPUs: who wants them where, and what leases are on
//   gpu_handles.cc   how copies are exported
//   promotions.cc    copies made of what is resident
//   gpu_room.cc      the same as room.cc on a GPU
//   gpu_operators.cc draining GPUs, and what is left when one is lost
//   revalidation.cc  asking the source for news of a resident model
//   ticker.cc        what time brings: progress, unclaimed leases, looks at drained segments
//   operators.cc     Evict, Pin, LetGo, listings
//
// `mutex_` guards which models are here and which flights run; the lease table's and the tier's
// locks come after it. `room_mutex_` comes before it: it lets one load at a time look for room.
// What a locked step has to say to those who wait it adds to Outcomes, for Tell() to say without a
// lock. Events are published under the lock, so that their order is the order of what happened.
class NodeCache final : public Cache {
 public:
  NodeCache(CacheOptions options, std::shared_ptr<host::HostTier> tier,
            pipeline::ModelLoader* loader, device::Gpus* gpus);
  ~NodeCache() override;

  void Readopt(std::vector<fd_store::StoredFd> stored) override
      ABSL_LOCKS_EXCLUDED(room_mutex_, mutex_);
  absl::StatusOr<StoppedLoads> StopLoads(absl::Time deadline) override ABSL_LOCKS_EXCLUDED(mutex_);
  StoppedLoads StopLoadsForGood() override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<bool> ResumeLoads() override ABSL_LOCKS_EXCLUDED(mutex_);
  bool LoadsStopped() const override ABSL_LOCKS_EXCLUDED(mutex_);
  HandedOver HandOver(absl::Time deadline) override ABSL_LOCKS_EXCLUDED(mutex_);
  std::unique_ptr<Wait> Acquire(AcquireRequest request, AcquireCallbacks callbacks) override;
  absl::Status Release(SessionId session, LeaseId lease) override;
  void EndSession(SessionId session) override;
  absl::StatusOr<std::vector<ClaimedHandle>> Claim(SessionId session, LeaseId lease) override;
  std::unique_ptr<Wait> Preload(PreloadRequest request, PreloadCallbacks callbacks) override;
  absl::StatusOr<EvictResult> Evict(const Uri& uri, bool force) override;
  absl::StatusOr<EvictResult> EvictFromGpu(const Uri& uri, const GpuId& gpu, bool force) override;
  absl::StatusOr<ModelSnapshot> Pin(const Uri& uri, bool pinned) override;
  void PinForConfig(const Uri& uri, bool pinned) override;
  void LetGo(const Uri& uri) override;
  void SetPlacements(Placements placements) override;
  std::vector<ModelSnapshot> Models() const override;
  absl::StatusOr<ModelSnapshot> Model(const Uri& uri) const override;
  absl::StatusOr<std::shared_ptr<const pipeline::ResidentModel>> Resident(
      const Uri& uri) const override;
  std::vector<LeaseSnapshot> Leases() const override { return leases_.Snapshots(); }
  HeldBytes HeldBy(absl::string_view listener) const override;
  host::HostUsage Usage() const override { return tier_->usage(); }
  std::vector<host::DrainingSegment> Draining() const override { return tier_->draining(); }
  uint32_t LoadsRunning() const override;
  ReadoptionSnapshot Readoption() const override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<uint64_t> DrainGpu(const GpuId& gpu, bool force) override;
  absl::Status ResumeGpu(const GpuId& gpu) override;
  std::vector<device::GpuStatus> Gpus() const override;
  absl::StatusOr<GpuId> FindGpu(absl::string_view name) const override;
  EventLog& events() override { return events_; }

  // For waits that die: the interest of `waiter` in the load of `uri` ends.
  void Leave(const Uri& uri, const Waiter* waiter) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // requests.cc
  std::unique_ptr<Wait> Want(const Uri& uri, Interest interest) ABSL_LOCKS_EXCLUDED(mutex_);
  Grant GrantOn(EntryId id, const Interest& interest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndLeases(std::vector<LeaseTable::Ended> ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tell(Outcomes outcomes) ABSL_LOCKS_EXCLUDED(mutex_);

  // quotas.cc
  // That its listener's clients may hold `bytes` more, beside what they hold and what loads bring
  // them; the load of `own`, and the entry `but`, are what it is about.
  absl::Status CheckQuota(const Interest& interest, const Uri& uri, uint64_t bytes, EntryId but,
                          const Flight* own) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of an interest in a resident model.
  absl::Status CheckQuota(const Interest& interest, const Entry& entry) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether its session may have one more.
  absl::Status CheckLeases(const Interest& interest) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of an interest in a load that runs.
  absl::Status CheckQuotaInFlight(const Uri& uri, const Interest& interest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  using HeldByOthers = absl::FunctionRef<bool(const host::HostSegment&)>;
  HeldBytes HeldLocked(absl::string_view listener, EntryId but, HeldByOthers held_by_others) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of host memory, that other loads will bring to clients of the listener.
  uint64_t ComingTo(absl::string_view listener, const Flight* own) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The load's size is known now: those whose listener may not hold it wait no longer.
  void TurnAwayOverQuota(Load& load, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // pins.cc
  // Ends an interest in a resident model: a grant, an error, or first a look at its bytes.
  void Settle(EntryId id, Interest interest, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunPinCheck(const std::shared_ptr<PinCheck>& check) ABSL_LOCKS_EXCLUDED(mutex_);

  // flights.cc
  void Join(const Uri& uri, Interest interest, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All loads begin here, unless they are stopped (drain.cc).
  void Start(const Uri& uri, std::vector<Interest> interests, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whose turns a load waits for, by who wants it.
  Workers& TurnsOf(const Interest& interest);
  // The flight's load waits for one of these turns, too, unless it does already or runs. The first
  // that comes up runs it, the others do nothing.
  void AwaitTurn(const Flight& flight, const Interest& interest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null if the load was given up.
  Flight* FlightOf(const Load& load) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Arrive(const Load& load, EntryId id, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those who want another revision than the one that is coming, may not have its files, or pin
  // files that it doesn't have.
  void TurnAwayOthers(Flight& flight, const pipeline::ResolvedModel& coming, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those who ride get `error`; the others a load of their own.
  void Crash(const Load& load, const absl::Status& error, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Stops a load; nobody gets another one.
  void Abort(const Uri& uri, const absl::Status& reason, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What it waited for in that load, if it may leave.
  Interest TakeInterest(const Uri& uri, const Waiter* waiter, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveUpIfUnwanted(const Uri& uri, Outcomes& outcomes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  ModelSnapshot Describe(const Flight& flight) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // loads.cc
  void RunLoad(Load& load) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Attempt(Load& load, const std::optional<pipeline::ModelKey>& key)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the load if its revision is here already.
  bool ArriveIfResident(Load& load, const pipeline::ResolvedModel& resolved)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Land(const Load& load, Loaded loaded, LoadedCopies copies, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BecomeCurrent(EntryId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // readopt.cc
  void ReadoptNow(std::vector<fd_store::StoredFd> stored) ABSL_LOCKS_EXCLUDED(room_mutex_, mutex_);
  void Add(Readopted one) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // For one of which another load is here; takes all of it but its copies.
  void LeaveBehind(Readopted& one) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // An operator's pin, by the one that is here. False if none is.
  bool TakePinOver(const Uri& uri) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteUnknown(const std::vector<std::string>& names) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `is_model`: not just one of its copies.
  void NoteNotReadopted(const NotReadopted& one, bool is_model)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Keeps it for the next daemon, if there is a store.
  // `asked` is what the config said of its checksums before it was loaded.
  Loaded Keep(pipeline::ResidentModel model, const source::ReadPolicy& policy,
              pipeline::VerifyPolicy asked, absl::Span<const SharedCopy> copies);
  void LockLater(SharedModel model) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Lock(const std::weak_ptr<const pipeline::ResidentModel>& model) ABSL_LOCKS_EXCLUDED(mutex_);

  // drain.cc
  using Loads = std::vector<std::shared_ptr<const Load>>;
  // No load starts from now on; those that run.
  Loads BeginDrain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AbortLoads(Outcomes& outcomes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A while; whether none was resumed since `resumes`.
  bool AwaitAborted(uint64_t resumes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Why no load starts.
  absl::Status LoadsStoppedFor(const Uri& uri) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // taking_back.cc
  // What keeps a copy for the next daemon, if anything does; says so if it should and can't.
  std::shared_ptr<void> KeepCopy(const Entry& entry, device::Segment& segment)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeBackLater(EntryId id, LeftCopy left) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those that couldn't be looked at, once more.
  void TakeBackDue() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether an earlier daemon left a copy there that may be one again.
  bool ComesBack(const Entry& entry, const GpuId& gpu) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeBack(const Promotions::Shared& promotion) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<SharedCopy> Import(const Uri& uri, Promotion& promotion,
                                    device::ImportPlan& plan) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes of `plan` and `copy` what stays.
  void TakenBack(Promotion& promotion, device::ImportPlan& plan, absl::StatusOr<SharedCopy>& copy,
                 Outcomes& outcomes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // False if `why` is for good, or it was tried often enough.
  bool TakeBackAgain(Promotion& promotion, device::ImportPlan& plan, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteCopyNotReadopted(const Promotion& promotion, const absl::Status& why, bool nowhere)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // For a model that turned out not to be here.
  void LoadAgain(const Uri& uri, Interest interest, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // On a thread that may wait for a driver.
  void DropLeftLater(LeftCopy left) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Models that were only to be taken back, and aren't.
  void TakeOutIfNowhere(absl::Span<const EntryId> ids) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // room.cc
  absl::StatusOr<host::Reservation> MakeRoom(Load& load, uint64_t bytes)
      ABSL_LOCKS_EXCLUDED(mutex_, room_mutex_);
  absl::StatusOr<host::Reservation> ReserveOrEvict(uint64_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(room_mutex_) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<Departure> TakeVictims(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status NoRoom(uint64_t bytes, const absl::Status& cause) ABSL_LOCKS_EXCLUDED(mutex_);
  // How often memory came back: from loads that ended and from models that were dropped.
  uint64_t MemoryReturns() ABSL_LOCKS_EXCLUDED(mutex_);
  // False if none came back since `returns` and none is on its way; else waits a moment for it.
  bool AwaitMemory(const Load& load, uint64_t returns) ABSL_LOCKS_EXCLUDED(mutex_);

  // revalidation.cc
  void CheckIfDue(const Entry& entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Check(const Uri& uri, const source::ReadPolicy& policy,
             const pipeline::KnownSmallFiles& small_files) ABSL_LOCKS_EXCLUDED(mutex_);

  // operators.cc
  Leaver TakeOut(EntryId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetPinned(const Entry& entry, Pinner pinner, bool pinned)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // gpu_copies.cc
  std::shared_ptr<const Placements> PlacementsNow() const ABSL_LOCKS_EXCLUDED(placements_mutex_);
  Placement PlacementOf(const Uri& uri) const ABSL_LOCKS_EXCLUDED(placements_mutex_);
  // What the model's placement rules out.
  absl::Status CheckPlacement(const Uri& uri, const Interest& interest) const;
  // An error if it is to be in host memory by now, and isn't.
  absl::Status CheckThere(const Entry& entry, const Interest& interest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Grants, after the copies that `interest` wants were made.
  void Place(EntryId id, Interest interest, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What a lease of `interest` is on; null: the bytes in host memory.
  SharedCopy SegmentFor(const Entry& entry, const Interest& interest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<pipeline::Destinations> DestinationsOf(Load& load) ABSL_LOCKS_EXCLUDED(mutex_);
  bool IsWhereWanted(const Entry& entry, const Flight& flight) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether it came too late: its GPU is drained, its worker gone, or its placement another.
  absl::Status CheckArrival(const Uri& uri, const device::Segment& segment) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CopyArrived(EntryId id, SharedCopy segment) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // For a load that failed though its revision is here, on other GPUs: those who can do without it.
  void SettleWithout(const Load& load, const absl::Status& error, Outcomes& outcomes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those who want a copy that a load could not make, and that can't be made of what it brought.
  void NoteFailedCopies(const Entry& entry, absl::Span<const CopyFailure> failures, Flight& flight,
                        Outcomes& outcomes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes one copy out, and ends leases on it from our side. Null if there is none.
  // `why`: if nobody asked for that.
  SharedCopy DetachCopy(EntryId id, const GpuId& gpu, const absl::Status& why = absl::OkStatus())
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // And its entry, if that then is nowhere.
  SharedCopy TakeCopyOut(EntryId id, const GpuId& gpu, const absl::Status& why = absl::OkStatus())
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // gpu_handles.cc
  // What a copy is marked with; nothing if it isn't kept for the next daemon.
  std::string MarkFor(const RevisionId& revision, device::Handles handles) const;
  // That its placement says so now.
  absl::Status CheckHandles(const Uri& uri, device::Handles handles) const;
  // Copies that were exported otherwise than their placements say now, unless they are leased.
  void TakeOutOtherHandles() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TakeOutOtherHandles(EntryId id, const GpuId& gpu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // EndLeases, of leases that clients had until now: copies that only they kept leave.
  void LeasesEnded(std::vector<LeaseTable::Ended> ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // promotions.cc
  void Promote(EntryId id, const GpuId& gpu, Interest interest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Holds its entry.
  void StartPromotion(Promotions::Shared promotion) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunPromotion(const Promotions::Shared& promotion) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<SharedCopy> MakeCopy(Promotion& promotion) ABSL_LOCKS_EXCLUDED(mutex_);
  void StopPromotions(absl::FunctionRef<bool(const Promotion&)> stops, const absl::Status& reason,
                      Outcomes& outcomes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those for whom `leaves` holds wait no longer; what nobody waits for stops.
  void LeavePromotions(absl::FunctionRef<bool(const Interest&)> leaves, const absl::Status& reason,
                       Outcomes& outcomes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // gpu_room.cc
  // A private copy, which is one client's, moves no model away from where it is placed.
  absl::StatusOr<device::Reservation> MakeRoomOn(const GpuId& gpu, uint64_t bytes, bool for_private,
                                                 Cancellation& cancellation)
      ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<SharedCopy> TakeVictimsOn(const GpuId& gpu, uint64_t bytes, bool spare_placed)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // On a thread that may wait for a GPU's worker.
  void DropCopyLater(SharedCopy copy) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteDropped(size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  // False if no copy was dropped since `drops` and none is on its way, or back to that GPU; else
  // waits a moment.
  bool AwaitDrops(const GpuId& gpu, uint64_t drops) ABSL_LOCKS_EXCLUDED(mutex_);

  // gpu_operators.cc
  absl::Status MayDrain(const GpuId& gpu) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A placed model that is nowhere else comes back with its GPU.
  void RememberIfLast(const Entry& entry, const GpuId& gpu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the worker that ended had: models that are nowhere then leave.
  void TakeLostOut(const GpuId& gpu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GpuLost(const GpuId& gpu, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes the copies that placements promise and that aren't there.
  void KeepPlaced(const GpuId& gpu, Outcomes& outcomes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is only on GPUs, has no leases, and is placed in host memory by now.
  void TakeOutMisplaced(Outcomes& outcomes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // KeepPlaced after a while, longer each time, unless `why` won't pass.
  void KeepPlacedLater(const GpuId& gpu, const absl::Status& why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RetryPlaced() ABSL_LOCKS_EXCLUDED(mutex_);

  // ticker.cc
  void Tick() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Duration NextTick(absl::Duration next_progress) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeTickerBefore(absl::Duration uptime) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // For a model just taken out: it is dropped next, without the lock.
  Departure Leaves(const Uri& uri, Leaver leaver) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropLater(const Uri& uri, Leaver leaver) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellProgress() ABSL_LOCKS_EXCLUDED(mutex_);
  void ExpireUnclaimed() ABSL_LOCKS_EXCLUDED(mutex_);

  void Publish(EventKind kind, const Uri& uri, const RevisionId& revision, uint64_t bytes = 0,
               const absl::Status& error = absl::OkStatus());
  void PublishLoad(EventKind kind, const Load& load, const RevisionId& revision, uint64_t bytes = 0,
                   const absl::Status& error = absl::OkStatus());
  void PublishLeaseEnd(const Entry& entry, const LeaseTable::Ended& lease);
  void PublishOn(const GpuId& gpu, EventKind kind, const Uri& uri, const RevisionId& revision,
                 uint64_t bytes, const absl::Status& error = absl::OkStatus());

  const CacheOptions options_;
  const std::shared_ptr<host::HostTier> tier_;
  pipeline::ModelLoader* const loader_;
  // Null on a node without GPUs.
  device::Gpus* const gpus_;
  EventLog events_;
  // Null if there is no store.
  std::unique_ptr<Shelf> shelf_;
  Departures departures_;
  LeaseTable leases_;
  // Stops checks.
  Cancellation shutdown_;

  // A leaf: nothing else is locked under it.
  mutable absl::Mutex placements_mutex_ ABSL_ACQUIRED_AFTER(mutex_);
  std::shared_ptr<const Placements> placements_ ABSL_GUARDED_BY(placements_mutex_);

  absl::Mutex room_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // By StopLoads; for good by StopLoadsForGood.
  bool loads_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_for_good_ ABSL_GUARDED_BY(mutex_) = false;
  // How often loads were stopped, and resumed.
  uint64_t drains_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t resumes_ ABSL_GUARDED_BY(mutex_) = 0;
  ReadoptionSnapshot readoption_ ABSL_GUARDED_BY(mutex_);
  Catalog catalog_ ABSL_GUARDED_BY(mutex_);
  // By URI.
  absl::btree_map<std::string, Flight> flights_ ABSL_GUARDED_BY(mutex_);
  // Loads that a thread works on, those given up included.
  absl::flat_hash_set<Load*> running_ ABSL_GUARDED_BY(mutex_);
  PinChecks pin_checks_ ABSL_GUARDED_BY(mutex_);
  Promotions promotions_ ABSL_GUARDED_BY(mutex_);
  // Copies that are being dropped for room, and how many have been.
  size_t copies_dropping_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t copies_dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::CondVar copy_dropped_;
  // Taken out of use by operators.
  std::set<GpuId> drained_gpus_ ABSL_GUARDED_BY(mutex_);
  // GPUs on which placed copies are missing, and when they are tried again.
  struct PlacedRetry {
    absl::Duration due = absl::InfiniteDuration();
    absl::Duration delay;
    // That were nowhere else, and whose source may be asked so.
    std::vector<std::pair<Uri, source::ReadPolicy>> reloads;
  };
  std::map<GpuId, PlacedRetry> placed_retries_ ABSL_GUARDED_BY(mutex_);
  // Readopted models that are being locked into memory, which holds them for moments.
  size_t locking_ ABSL_GUARDED_BY(mutex_) = 0;
  // Loads and stopped checks that ended: their memory is back.
  uint64_t memory_returns_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::CondVar memory_returned_;
  absl::Duration next_tick_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  absl::CondVar tick_now_;

  // Turns of clients, of operators, and of news of resident models: slow sources that one of them
  // asks keep none of the others waiting.
  Workers loads_;
  Workers urgent_loads_;
  Workers news_loads_;
  Workers checks_;
  Workers hashing_;
  Workers locking_thread_;
  GpuWorkers promoting_;
  GpuWorkers taking_back_;
  GpuWorkers dropping_;
  std::thread ticker_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_NODE_CACHE_H_
