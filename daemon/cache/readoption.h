#ifndef WEIGHTD_DAEMON_CACHE_READOPTION_H_
#define WEIGHTD_DAEMON_CACHE_READOPTION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/cache/card.h"
#include "daemon/cache/card_facts.h"
#include "daemon/cache/catalog.h"
#include "daemon/cache/left_copy.h"
#include "daemon/cache/shelf.h"
#include "daemon/cache/stored_name.h"
#include "daemon/device/gpus.h"
#include "daemon/fd_store/fd_store.h"
#include "daemon/host/host_segment.h"
#include "daemon/host/host_tier.h"
#include "daemon/pipeline/loader.h"
#include "daemon/source/source.h"

namespace weightd::cache {

// A model that an earlier daemon left, as good as one that was just loaded. Its copies on GPUs are
// yet to be looked at; one that is only there has some.
struct Readopted {
  SharedModel model;
  source::ReadPolicy policy;
  Shelf::Shelved shelved;
  absl::Time loaded_at;
  absl::Time last_used_at;
  std::vector<LeftCopy> copies;
};

// What an earlier daemon left and isn't taken. No URI: its card doesn't tell.
struct NotReadopted {
  std::string place;
  Uri uri;
  RevisionId revision;
  absl::Status why;
  // It was the current revision of a model that an operator had pinned.
  bool pinned = false;
  // Only its copy there.
  std::optional<GpuId> gpu = {};
};

// Makes models of the descriptors that an earlier daemon left in the store. Believes none of them:
// what doesn't check out is taken out of the store and never served.
//
// Of one URI only the revision that was granted last becomes a model again, of those that are there
// as a whole: an earlier daemon may have ended while it stored one. What was superseded or
// evicted was there for clients that mapped it, and drains now: whoever still maps it goes on
// reading, and takes its next lease on the current revision.
//
// Whether clients map a segment is asked of the kernel, nobody else knows: their leases ended with
// the daemon that granted them. What they map goes first where the budget has become too small for
// all: dropping it would give nothing back. For the same reason it makes no room for loads later
// (ComesFree), and an operator's eviction lets it drain.
//
// What they map and there is no room for drains, and is charged though the budget is too small.
//
// For one thread.
class Readoption {
 public:
  struct Means {
    DecodeCard decode_card;
    pipeline::DecodeIndex decode_index;
    // Null: nothing is.
    std::function<bool(const Uri&)> pinned_by_config;
    std::function<pipeline::VerifyPolicy(const Uri&)> verify_of;
    // Of models that were loaded meanwhile. Null: none was.
    std::function<bool(const Uri&)> is_here;
  };
  // `gpus` is null on a node without GPUs.
  Readoption(std::shared_ptr<host::HostTier> tier, device::Gpus* gpus, Shelf* shelf, Means means);

  void Run(std::vector<fd_store::StoredFd> stored);

  // What came of it. Models are least recently used first; no two are of one URI.
  std::vector<Readopted> models;
  std::vector<NotReadopted> refused;
  // What descriptors were called that are of no model.
  std::vector<std::string> unknown;
  // To be dropped, which frees memory that nobody maps and may take a while.
  std::vector<std::shared_ptr<host::HostSegment>> leaving;

 private:
  using Fds = std::multimap<Part, Fd>;
  using CopyFds = std::multimap<GpuId, Fd>;
  struct Place {
    Fds fds;
    CopyFds copies;
  };
  // A place in the store whose card is a card.
  struct Candidate {
    std::string place;
    Fds fds;
    CopyFds copies;
    std::shared_ptr<Card> card;
    CardFacts facts;
    // What the card said when it was read: somebody else may change it.
    bool pinned = false;
    absl::Time last_used_at;
    // By an operator or the config.
    bool wanted = false;
    bool held = false;
    // Another load of it is.
    bool here = false;
    bool current = false;
  };
  using Segments = std::map<Part, std::shared_ptr<host::HostSegment>>;
  struct Room {
    host::Reservation reservation;
    // It is not the budget's: the memory may only drain there.
    absl::Status refusal;
  };

  // left_places.cc
  // By place; what is called otherwise is unknown.
  std::map<std::string, Place> SortByPlace(std::vector<fd_store::StoredFd> stored);
  std::vector<Candidate> ReadCards(std::map<std::string, Place> places);
  absl::StatusOr<Candidate> ReadCard(absl::string_view place, Fds fds);
  static void ChooseCurrent(std::vector<Candidate>& candidates);

  // What of a model the card wants to be there.
  static std::optional<KeptMemory> MemoryIn(const CardFacts& facts, Part part);

  // readoption.cc
  void Take(Candidate candidate);
  // An error if the config wants its checksums looked at more closely than they were.
  absl::Status CheckVerified(const Candidate& candidate) const;
  // Those that check out, kept; an error if any doesn't.
  absl::Status TakeParts(Candidate& candidate, Shelf::Kept& kept, Segments& segments);
  // May be among the segments though it is refused: then it drains.
  absl::Status TakePart(Candidate& candidate, Part part, const KeptMemory& memory,
                        Shelf::Kept& kept, Segments& segments);
  absl::StatusOr<Room> RoomFor(const Fd& memory, uint64_t bytes);
  // Those that there is room for; the others are refused. They may be none.
  std::vector<LeftCopy> TakeCopies(Candidate& candidate, Shelf::Kept& kept,
                                   const pipeline::ModelIndex& index);
  absl::StatusOr<LeftCopy> TakeCopy(const GpuId& gpu, Fd exported, size_t of_that_name,
                                    uint64_t device_bytes);
  absl::StatusOr<SharedModel> Assemble(Candidate& candidate, const Segments& segments);

  const std::shared_ptr<host::HostTier> tier_;
  device::Gpus* const gpus_;
  Shelf* const shelf_;
  const Means means_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_READOPTION_H_
