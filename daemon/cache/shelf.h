#ifndef WEIGHTD_DAEMON_CACHE_SHELF_H_
#define WEIGHTD_DAEMON_CACHE_SHELF_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "daemon/cache/card.h"
#include "daemon/cache/card_facts.h"
#include "daemon/cache/stored_name.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/source.h"

namespace weightd::cache {

// The models that lie in a store of descriptors, so that they outlive this process. Each segment
// stays there until its memory is gone, drained segments until the last client has let go of them;
// the card leaves with the last segment. A copy on a GPU stays there as long as it is granted. A
// model that isn't kept is served like any other. Thread-safe.
class Shelf {
 private:
  class Place;

 public:
  // `store` outlives every segment that was kept, or Close(). `mark` is what its new places begin
  // with: that of OwnerMark where others may use the store, too, or nothing.
  Shelf(fd_store::FdStore* store, std::shared_ptr<host::HostTier> tier, EncodeCard encode_card,
        std::string mark = {});
  ~Shelf() { Close(); }
  Shelf(const Shelf&) = delete;

  // A model's place; of an earlier daemon's, what checks out stays there. None by default.
  class Kept {
   public:
    // `card` is its card's descriptor; null: it has none that checks out.
    void KeepCard(const Fd& card);
    // Before others see the segment.
    void Keep(Part part, host::HostSegment& segment);
    void Drop(Part part);
    // It stays while what is returned lives; null if this is no place.
    std::shared_ptr<void> KeepCopy(const GpuId& gpu, const Fd& exported) const;
    // The same of one that lies there already. Not stored again: all descriptors of GPUs' memory
    // may be of one device file, and the store may take the same one for another.
    std::shared_ptr<void> HoldCopy(const GpuId& gpu) const;
    void DropCopy(const GpuId& gpu);
    // Whether these are enough for the next daemon to have the model: of one that is not in host
    // memory with a copy, on whichever GPU.
    bool IsWholeIn(const fd_store::StoredNames& stored, const pipeline::ResidentModel& model) const;

   private:
    friend class Shelf;
    std::shared_ptr<Place> place_;
  };
  // `model` is what people are told its descriptors are of.
  Kept PlaceOf(absl::string_view place, std::string model = {});

  struct Shelved {
    std::shared_ptr<Card> card;
    Kept place;
  };
  // For a model that nobody else has yet. Its card has rank 0. An error if it can't be kept, for
  // there is no room for its card.
  absl::StatusOr<Shelved> Keep(const pipeline::ResidentModel& model,
                               const source::ReadPolicy& policy, pipeline::VerifyPolicy verified_as,
                               absl::Time now);

  // Whatever it is.
  void Drop(absl::string_view stored_name);

  // Waits a moment until the store has let go of what left it, so that the memory of segments that
  // were dropped is free.
  void Settle();

  // Waits until `deadline` for the store to have all that lies there; whether it has.
  bool Flush(absl::Time deadline);

  // What the store has confirmed that it has, ours or not.
  fd_store::StoredNames Confirmed() const;

  // What lies there stays for the next daemon, whatever becomes of it here.
  void Close();

 private:
  struct Store {
    absl::Mutex mutex;
    // Null: closed.
    fd_store::FdStore* store ABSL_GUARDED_BY(mutex);
    // Until then (Uptime) nobody waits for it: it didn't answer.
    absl::Duration silent_until ABSL_GUARDED_BY(mutex) = -absl::InfiniteDuration();

    void Put(absl::string_view name, const Fd& fd, absl::string_view model)
        ABSL_LOCKS_EXCLUDED(mutex);
    void Drop(absl::string_view name) ABSL_LOCKS_EXCLUDED(mutex);
  };

  const std::shared_ptr<host::HostTier> tier_;
  const EncodeCard encode_card_;
  const std::string mark_;
  const std::shared_ptr<Store> store_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_SHELF_H_
