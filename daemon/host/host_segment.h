#ifndef WEIGHTD_DAEMON_HOST_HOST_SEGMENT_H_
#define WEIGHTD_DAEMON_HOST_HOST_SEGMENT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/fd.h"
#include "common/mapping.h"
#include "daemon/host/host_tier.h"
#include "daemon/host/memfd.h"

namespace weightd::host {

class HostSegment;

// A segment while it is filled: a memfd that only this process holds, mapped writable. Dropping it
// frees everything.
class WritableSegment {
 public:
  // `size` bytes, at least 1, rounded up to whole pages; at most reservation.bytes(). `label` names
  // it in draining lists, and in /proc unless the memory was made ready before; it holds no secret.
  static absl::StatusOr<WritableSegment> Create(absl::string_view label, uint64_t size,
                                                Reservation reservation);
  ~WritableSegment();
  WritableSegment(WritableSegment&&) = default;
  WritableSegment& operator=(WritableSegment&&) = delete;

  absl::Span<std::byte> bytes() const { return mapping_.span(); }

  // Whether its pages are huge: one costs a fault for 2 MiB of bytes.
  bool huge_pages() const { return huge_pages_; }

  // Makes the pages of `range` present, zeroed and huge where the kernel allows, so that bytes
  // which arrive later don't wait for them. From any thread; harmless to skip or to repeat.
  absl::Status Populate(ByteRange range);

  // Says that `bytes` more have pages because somebody wrote there. From any thread.
  void CountWritten(uint64_t bytes);

  // A descriptor to read it through while it is filled, for a worker that copies to a GPU. Counts
  // as a holder until it is closed and what was mapped through it is unmapped; sealing doesn't mind
  // it.
  absl::StatusOr<Fd> OpenForDevice() const { return memfd_.ReopenReadOnly(); }

  // Unmaps, seals against every write, truncate and further seal (F_SEAL_WRITE | SHRINK | GROW |
  // SEAL), maps again read-only. The caller ensures that no I/O into bytes() is in flight. EBUSY of
  // the kernel (somebody maps it writable) is an internal error: nothing is published.
  absl::StatusOr<std::shared_ptr<HostSegment>> Seal() &&;

 private:
  WritableSegment(std::string label, Fd memfd, WritableMemory memory, Reservation reservation);

  std::string label_;
  // Declared, and so freed, before the memory: the memory goes first.
  Reservation reservation_;
  Fd memfd_;
  Mapping mapping_;
  bool huge_pages_;
};

// Sealed, immutable bytes that any process may map. When the daemon drops the last reference the
// segment drains: it stays charged to its tier until nobody holds it any more. Thread-safe.
class HostSegment {
 public:
  // One that an earlier daemon filled, sealed and kept: `kept` is a duplicate of what its kept()
  // was, `size` its bytes, `holders` the listeners whose clients were given it. An error if it
  // isn't that, see CheckSealed(). Its pages are locked by LockMore().
  static absl::StatusOr<std::shared_ptr<HostSegment>> Adopt(absl::string_view label, Fd kept,
                                                            uint64_t size, Reservation reservation,
                                                            std::vector<std::string> holders);
  ~HostSegment();
  HostSegment(const HostSegment&) = delete;

  absl::Span<const std::byte> bytes() const { return mapping_.span(); }
  uint64_t size() const { return mapping_.size(); }
  // What the tier is charged for it.
  uint64_t charged_bytes() const { return reservation_.bytes(); }

  // A new read-only descriptor to hand out; `holder` is the listener whose client gets it.
  absl::StatusOr<Fd> OpenForClient(absl::string_view holder) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether a client of that listener was ever given it.
  bool GivenTo(absl::string_view holder) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether any other process has the segment open or mapped. False positives while one of our own
  // descriptors from OpenForClient is open.
  bool HeldByOthers() const ABSL_LOCKS_EXCLUDED(mutex_);

  // The only descriptor that we keep, for a store that outlives us. Only of this one duplicates
  // don't count as holders, whoever has them.
  const Fd& kept() const { return probe_; }

  // `tied` dies when nobody holds the memory any more, just before our descriptor is closed: for
  // what has to let go of it, too. Once, before others see the segment.
  void TieTo(std::shared_ptr<void> tied) { tied_ = std::move(tied); }

  // Locks some more of an adopted segment into memory, if the tier locks; false: there is no more
  // to do. One thread at a time.
  bool LockMore();

  // Fraction of the segment that lies in huge pages, 0 to 1. Reads /proc/self/smaps: for operators,
  // not for hot paths.
  absl::StatusOr<double> HugePageFraction() const;

  // Whether its pages are locked into memory.
  bool locked() const { return locked_bytes_ == mapping_.size(); }

 private:
  friend class WritableSegment;
  HostSegment(std::string label, Fd probe, Mapping mapping, Reservation reservation);
  // Whether all of the next `bytes` could be locked.
  bool Lock(uint64_t bytes);

  const std::string label_;
  Reservation reservation_;
  // The only descriptor we keep: read-only, never handed out itself. mapping_ was made through it;
  // see HeldByOthers() in holders.h.
  Fd probe_;
  Mapping mapping_;
  std::atomic<uint64_t> locked_bytes_ = 0;
  std::shared_ptr<void> tied_;

  // Also keeps OpenForClient and HeldByOthers apart.
  mutable absl::Mutex mutex_;
  absl::flat_hash_set<std::string> holders_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::host

#endif  // WEIGHTD_DAEMON_HOST_HOST_SEGMENT_H_
