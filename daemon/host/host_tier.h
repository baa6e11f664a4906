#ifndef WEIGHTD_DAEMON_HOST_HOST_TIER_H_
#define WEIGHTD_DAEMON_HOST_HOST_TIER_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"
#include "daemon/host/memory_limits.h"
#include "daemon/host/ready_memory.h"

namespace weightd::host {

class HostTier;

// What a reservation's bytes count as.
enum class Charge : uint8_t { kLoading, kResident, kDraining };

// Bytes taken out of a tier's budget, given back when this dies. Whole pages.
class Reservation {
 public:
  Reservation() = default;
  ~Reservation() { GiveBack(); }
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;

  uint64_t bytes() const { return bytes_; }

  // Takes `bytes` of this reservation into one of its own; `bytes` is whole pages, at most what
  // this one has, and nothing of this one is written yet. Ready memory stays with this one.
  Reservation Split(uint64_t bytes);

  // From here on its bytes count as resident: for memory that is no segment's. Gives back ready
  // memory.
  void Settle();

 private:
  friend class HostTier;
  friend class WritableSegment;
  friend class HostSegment;
  friend class StagingWindow;

  Reservation(std::shared_ptr<HostTier> tier, uint64_t bytes);
  void GiveBack();

  std::shared_ptr<HostTier> tier_;
  uint64_t bytes_ = 0;
  Charge charge_ = Charge::kLoading;
  // Bytes that have pages already; at most bytes_. Written under the tier's mutex.
  uint64_t populated_ = 0;
  // Those of them that will be told once more, when they are written: ready memory's.
  uint64_t head_start_ = 0;
  // What its segment will be made of; else it is made of fresh memory.
  std::unique_ptr<ReadyMemory> ready_;
};

// Room that the machine has. Handed in, so that tests need no full machine.
using AvailableMemory = std::function<absl::StatusOr<uint64_t>()>;

struct HostTierOptions {
  // Bytes; everything that the tier's segments hold, from reservation to the last user's unmap.
  uint64_t budget = 0;
  // Bytes, part of the budget: as much memory as it keeps ready for the next large segment. Whole
  // pages.
  uint64_t ready = 0;
  bool huge_pages = true;
  bool mlock = false;
  AvailableMemory available_memory = ReadAvailableMemory;
};

// A segment that the daemon has dropped and that somebody still maps.
struct DrainingSegment {
  std::string label;
  uint64_t bytes = 0;
  // Listeners whose clients were given its descriptor, sorted.
  std::vector<std::string> holders;
};

// Bytes; resident + loading + draining never exceeds budget, but by what clients held before this
// daemon began.
struct HostUsage {
  uint64_t budget = 0;
  uint64_t resident = 0;
  uint64_t loading = 0;
  uint64_t draining = 0;
  // Ready for the next load; gives way to the others.
  uint64_t ready = 0;
};

// The byte budget of host memory and what is charged to it. Reservations count as loading until
// their segment is sealed, as resident until the daemon drops it, as draining until the kernel
// shows that nobody holds it. Thread-safe. Made with std::make_shared: reservations and segments
// keep it alive.
class HostTier : public std::enable_shared_from_this<HostTier> {
 public:
  explicit HostTier(HostTierOptions options);

  // Rounded up to whole pages. Fails with kBudgetExceeded when the budget has no room (the message
  // says what holds it), with kHostMemoryShort when the machine hasn't. Where there is no room it
  // looks for drained segments, and waits until they are freed.
  absl::StatusOr<Reservation> Reserve(uint64_t bytes)
      ABSL_LOCKS_EXCLUDED(reserving_, collecting_, mutex_);

  // For memory that is filled already, by an earlier daemon: only the budget is asked, since the
  // machine counts it as taken. Resident from the start.
  absl::StatusOr<Reservation> ReserveFilled(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // For memory that clients hold, whether the budget has room for it or not: beyond the budget
  // nothing else is reserved until it is free.
  Reservation ReserveHeld(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  // Makes some more memory ready. False if there is nothing to do: all of it is, or loads run, or
  // there is no room. For a thread that has time; see ReadyKeeper.
  bool PrepareReady() ABSL_LOCKS_EXCLUDED(reserving_, mutex_);

  HostUsage usage() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<DrainingSegment> draining() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Gives back what nobody holds any more; returns the segments that went. Cheap while nothing
  // drains; freeing takes up to a second per GiB of small pages. Reservations for which there is
  // room don't wait for it.
  std::vector<DrainingSegment> CollectDrained() ABSL_LOCKS_EXCLUDED(collecting_, mutex_);

  const HostTierOptions& options() const { return options_; }

 private:
  friend class Reservation;
  friend class WritableSegment;
  friend class HostSegment;
  friend class StagingWindow;

  struct Draining {
    DrainingSegment segment;
    Fd probe;
    // See HostSegment::TieTo.
    std::shared_ptr<void> tied;
  };

  absl::Status CheckBudget(uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Reservation> TryReserve(uint64_t bytes) ABSL_LOCKS_EXCLUDED(reserving_, mutex_);
  // Whether what is charged leaves room for it in the budget.
  bool ReadyFits(const HostUsage& usage) const;
  // Ready memory for `reservation`, if it is large enough to take some.
  void GiveReady(Reservation& reservation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(reserving_)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void SetReady(std::unique_ptr<ReadyMemory> ready) ABSL_EXCLUSIVE_LOCKS_REQUIRED(reserving_)
      ABSL_LOCKS_EXCLUDED(mutex_);
  Reservation ChargeFilled(uint64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  HostUsage UsageLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t& Charged(Charge charge) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // What reservations and segments tell of themselves.
  void Release(const Reservation& reservation) ABSL_LOCKS_EXCLUDED(mutex_);
  void Recharge(Reservation& reservation, Charge charge) ABSL_LOCKS_EXCLUDED(mutex_);
  void RechargeLocked(Reservation& reservation, Charge charge)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CountPopulated(Reservation& reservation, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // No more of them than it has bytes.
  void LimitPopulated(Reservation& reservation) ABSL_LOCKS_EXCLUDED(mutex_);
  // For memory that a reservation of `bytes` doesn't need.
  void TakeBack(std::unique_ptr<ReadyMemory> ready, uint64_t bytes)
      ABSL_LOCKS_EXCLUDED(reserving_, mutex_);
  // Frees a dropped segment at once if nobody else holds it; else it drains.
  void Retire(Draining dropped, Reservation reservation) ABSL_LOCKS_EXCLUDED(mutex_);

  const HostTierOptions options_;

  // One reservation at a time: two don't both count on the same free memory.
  absl::Mutex reserving_ ABSL_ACQUIRED_BEFORE(mutex_);
  std::unique_ptr<ReadyMemory> ready_ ABSL_GUARDED_BY(reserving_);
  // One collection at a time: whoever needs the memory that one is about to free waits for it.
  absl::Mutex collecting_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable absl::Mutex mutex_;
  // Bytes, indexed by Charge.
  std::array<uint64_t, 3> charged_ ABSL_GUARDED_BY(mutex_) = {};
  // Part of the loading bytes that MemAvailable no longer counts.
  uint64_t populated_ ABSL_GUARDED_BY(mutex_) = 0;
  // What usage() says of ready_.
  uint64_t ready_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Draining> draining_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_HOST_TIER_H_
