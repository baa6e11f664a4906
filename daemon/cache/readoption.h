#ifndef WEIGHTD_DAEMON_CACHE_READOPTION_H_
#define WEIGHTD_DAEMON_CACHE_READOPTION_H_

#include <cstddef>
#include <cstdint>
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
// Of one URI only the revision that was granted last becomes a model again. What was superseded or
// evicted was there for clients that mapped it, and drains now: whoever still maps it goes on
// reading, and takes its next lease on the current revision.
//
// Whether clients map a segment is asked of the kernel, nobody else knows: their leases ended with
// the daemon that granted them. What they map goes first where the budget has become too small for
// all: dropping it would give nothing back. For the same reason it makes no room for loads later
// (ComesFree), and an operator's eviction lets it drain.
//
// For one thread, before anybody else uses the tier.
class Readoption {
 public:
  // `gpus` is null on a node without GPUs.
  Readoption(std::shared_ptr<host::HostTier> tier, device::Gpus* gpus, Shelf* shelf,
             const DecodeCard& decode_card, const pipeline::DecodeIndex& decode_index);

  void Run(std::vector<fd_store::StoredFd> stored);

  // What came of it. Models are least recently used first; no two are of one URI.
  std::vector<Readopted> models;
  std::vector<NotReadopted> refused;
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
    bool held = false;
    bool current = false;
  };
  using Segments = std::map<Part, std::shared_ptr<host::HostSegment>>;

  // By place; what is called otherwise is refused.
  std::map<std::string, Place> SortByPlace(std::vector<fd_store::StoredFd> stored);
  std::vector<Candidate> ReadCards(std::map<std::string, Place> places);
  absl::StatusOr<Candidate> ReadCard(absl::string_view place, Fds fds);
  void Take(Candidate candidate);
  // Those that check out, kept; an error if any doesn't.
  absl::Status TakeParts(Candidate& candidate, Shelf::Kept& kept, Segments& segments);
  absl::StatusOr<std::shared_ptr<host::HostSegment>> TakePart(Candidate& candidate, Part part,
                                                              const KeptMemory& memory,
                                                              Shelf::Kept& kept);
  // Those that there is room for; the others are refused. They may be none.
  std::vector<LeftCopy> TakeCopies(Candidate& candidate, Shelf::Kept& kept,
                                   const pipeline::ModelIndex& index);
  absl::StatusOr<LeftCopy> TakeCopy(const GpuId& gpu, Fd exported, size_t of_that_name,
                                    uint64_t device_bytes);
  absl::StatusOr<SharedModel> Assemble(Candidate& candidate, const Segments& segments);

  const std::shared_ptr<host::HostTier> tier_;
  device::Gpus* const gpus_;
  Shelf* const shelf_;
  const DecodeCard& decode_card_;
  const pipeline::DecodeIndex& decode_index_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_READOPTION_H_
