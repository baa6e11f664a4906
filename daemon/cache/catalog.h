#ifndef WEIGHTD_DAEMON_CACHE_CATALOG_H_
#define WEIGHTD_DAEMON_CACHE_CATALOG_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/cache/card.h"
#include "daemon/cache/eviction.h"
#include "daemon/cache/holder.h"
#include "daemon/cache/left_copy.h"
#include "daemon/cache/shelf.h"
#include "daemon/cache/snapshots.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/source.h"

namespace weightd::cache {

using SharedModel = std::shared_ptr<const pipeline::ResidentModel>;
using SharedCopy = std::shared_ptr<device::Segment>;

// A revision's bytes in a GPU's memory.
struct Copy {
  SharedCopy segment;
  // Of the entry's leases, those on this copy.
  uint32_t leases = 0;
  // It lies in the store for the next daemon while this lives; null: it doesn't.
  std::shared_ptr<void> kept = {};
};

// What left the catalog, to be dropped without a lock; no model: nothing did.
struct Leaver {
  SharedModel model;
  std::vector<SharedCopy> copies;
  std::vector<LeftCopy> left = {};
  // It was the current revision, and had been let go.
  bool let_go = false;

  explicit operator bool() const { return model != nullptr; }
};

// A revision whose bytes are here.
struct Entry {
  EntryId id;
  Uri uri;
  // Of the load that brought it: how its source may be asked for news.
  source::ReadPolicy policy;
  SharedModel model;
  std::map<GpuId, Copy> copies;
  // Those that an earlier daemon left and that couldn't be looked at yet.
  std::map<GpuId, LeftCopy> left = {};
  uint32_t leases = 0;
  // Copies that are being made of it: as leases, but of nobody.
  uint32_t holds = 0;
  absl::Time loaded_at;
  absl::Time last_used_at;
  // Leases that were granted on it, also by earlier daemons.
  uint64_t uses = 0;
  // An earlier daemon loaded it.
  bool readopted = false;
  // What the next daemon finds out about it; null if it isn't kept for one.
  std::shared_ptr<Card> card = {};
  // Where its copies on GPUs are kept, too.
  Shelf::Kept place = {};

  const RevisionId& revision() const { return model->index.revision; }
  bool on_host() const { return model->weights != nullptr; }
  // Null if there is none.
  SharedCopy CopyOn(const GpuId& gpu) const {
    const auto found = copies.find(gpu);
    return found == copies.end() ? nullptr : found->second.segment;
  }
};

// What is known of one URI.
struct Record {
  Uri uri;
  // The revision that is granted; the id 0 if none is resident.
  EntryId current;
  // Older ones, each leased: they leave with their last lease.
  std::vector<EntryId> superseded;
  // By anybody.
  bool pinned = false;
  // Which pinners want it.
  bool operator_pin = false;
  bool config_pin = false;
  // The current revision leaves when nobody holds it any more.
  bool let_go = false;
  bool stale = false;
  // When (Uptime) the source last said which revision is the newest, and whether it is being asked
  // now.
  absl::Duration checked_at = -absl::InfiniteDuration();
  bool checking = false;
  std::string last_error;
};

// Whether `revision` is the one that a client names by its first digits; by none: any.
bool MatchesRevision(const RevisionId& revision, absl::string_view first_digits);

// Whether dropping the model gives its memory back now: we hold the only reference, and no client
// has it open or mapped.
bool ComesFree(const SharedModel& model);

// The resident revisions, by URI, and the order in which they may leave. Holds facts and keeps them
// consistent; frees nothing itself: what leaves is returned, to be dropped without a lock. Pointers
// it gives are valid until it is changed. Not thread-safe.
class Catalog {
 public:
  const Entry* Find(EntryId id) const;
  // Null unless resident. Without `first_digits` the current revision.
  const Entry* Find(const Uri& uri, absl::string_view first_digits = {}) const;

  // Null for URIs of which nothing is known.
  Record* FindRecord(const Uri& uri);
  const Record* FindRecord(const Uri& uri) const;
  // By URI.
  const std::map<std::string, Record>& records() const { return records_; }

  // Its card, if there is one, is kept true from here on.
  EntryId Add(const Uri& uri, const source::ReadPolicy& policy, SharedModel model, absl::Time now,
              Shelf::Shelved shelved = {});
  // A model that an earlier daemon had, as its card says; the current revision of its URI, which
  // had none. After others that were used less lately.
  EntryId AddReadopted(const source::ReadPolicy& policy, SharedModel model, Shelf::Shelved shelved,
                       absl::Time loaded_at, absl::Time now, absl::Duration uptime);
  // Makes an entry the one that is granted, freshly checked; the pin goes over to it. The previous
  // one is superseded: returned if nobody leases it, since then it leaves.
  Leaver MakeCurrent(EntryId id, absl::Duration uptime);

  // `listener`: whose client it is; `gpu`: of the copy that the lease is on, if it is on one.
  void AddLease(EntryId id, absl::string_view listener, const std::optional<GpuId>& gpu,
                absl::Time now);
  // Returns a superseded revision whose last lease this was.
  Leaver EndLease(EntryId id, const std::optional<GpuId>& gpu, absl::Time now);
  void Hold(EntryId id);
  // As EndLease; `used`: the hold was a use.
  Leaver Unhold(EntryId id, bool used = true);

  // The copy is evictable, and the most recently used one of its GPU.
  void AddCopy(EntryId id, SharedCopy segment, std::shared_ptr<void> kept = nullptr);
  // Null if there is none. The entry stays, even if it has no bytes any more.
  SharedCopy RemoveCopy(EntryId id, const GpuId& gpu);
  // Entries that have a copy there.
  std::vector<EntryId> EntriesOn(const GpuId& gpu) const;
  std::vector<EntryId> EntriesOnlyOnGpus() const;
  // To be looked at again, see Entry::left.
  void AddLeft(EntryId id, LeftCopy left);
  std::optional<LeftCopy> TakeLeft(EntryId id, const GpuId& gpu);
  std::vector<EntryId> EntriesLeftOn(const GpuId& gpu) const;
  // Which are due by then, and when the first one is.
  std::vector<std::pair<EntryId, GpuId>> LeftDueBy(absl::Duration uptime) const;
  absl::Duration NextLeftDue() const;
  // As PickVictims, of one GPU: copies that nobody leases, of models that aren't pinned or
  // `spared`.
  std::vector<EntryId> PickVictimsOn(const GpuId& gpu, uint64_t bytes,
                                     absl::FunctionRef<bool(const Entry&)> spared) const;

  // A use without a lease: the entry becomes the most recently used one, and stays if it was let
  // go.
  void Touch(EntryId id, absl::Time now);

  // The source said that the current revision is the newest.
  void NoteChecked(const Uri& uri, absl::Time now, absl::Duration uptime);

  // Only while a revision is current. It is pinned while anybody wants it so, until an operator
  // doesn't: that ends the config's pin, too. Whether it is pinned now and was not, or the reverse.
  bool SetPinned(const Uri& uri, Pinner pinner, bool pinned);

  // A current revision that isn't pinned leaves as soon as nobody holds it, unless it is pinned or
  // asked for by an operator or the config before: returned if nobody does.
  Leaver LetGo(EntryId id);

  // Takes an entry out, with all its leases and its pin.
  Leaver Remove(EntryId id);

  // Remembers why the last load failed. Of absent models only the last few hundred are remembered.
  void NoteFailure(const Uri& uri, absl::string_view message);

  // Least recently used first; nothing if even all that could leave is too little. Models that are
  // only on GPUs give no host memory back that counts.
  std::vector<EntryId> PickVictims(uint64_t bytes) const;

  // Where resident bytes are that can't leave: leased, pinned but not leased, released but still
  // mapped by clients.
  struct Stuck {
    uint64_t leased = 0;
    uint64_t pinned = 0;
    uint64_t mapped = 0;
  };
  Stuck StuckBytes() const;

  // Resident models that clients of `listener` were given and nobody leases, without `but`: they
  // may still be mapped, see HostSegment::HeldByOthers.
  std::vector<const Entry*> LetGoOf(absl::string_view listener, EntryId but) const;

  ModelSnapshot Describe(const Entry& entry) const;

 private:
  Entry& At(EntryId id) { return entries_.at(id); }
  void Use(Entry& entry, absl::Time now);
  // Says on the current revision's card what the record says.
  void WriteCard(const Record& record);
  // A superseded entry that nobody holds leaves, and so does one that was let go.
  Leaver RemoveIfOver(EntryId id);
  Record& RecordOf(const Uri& uri);
  // Forgets a URI that nothing is to be said of.
  void Tidy(const Uri& uri);

  uint64_t last_id_ = 0;
  // Of cards.
  uint64_t last_rank_ = 0;
  absl::flat_hash_map<EntryId, Entry> entries_;
  std::map<std::string, Record> records_;
  EvictionOrder order_;
  std::map<GpuId, EvictionOrder> gpu_orders_;
  // URIs in the order of their failures; some are resident by now, or forgotten.
  std::deque<Uri> failures_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_CATALOG_H_
