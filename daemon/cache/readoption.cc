#include "daemon/cache/readoption.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <tuple>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/host/holders.h"
#include "daemon/host/kept_memory.h"
#include "daemon/pipeline/digests.h"
#include "daemon/pipeline/heap_use.h"
#include "daemon/source/checksum.h"

namespace weightd::cache {
namespace {

absl::string_view WordFor(Part part) {
  switch (part) {
    case Part::kCard:
      return "its card";
    case Part::kWeights:
      return "its weights";
    case Part::kIndex:
      return "its index";
    case Part::kSmallFiles:
      break;
  }
  return "its small files";
}

absl::Status Refused(absl::string_view why) { return Error(Reason::kVerificationFailed, why); }

std::optional<KeptMemory> MemoryIn(const CardFacts& facts, Part part) {
  switch (part) {
    case Part::kCard:
      return std::nullopt;
    case Part::kWeights:
      return facts.weights;
    case Part::kIndex:
      return facts.encoded_index;
    case Part::kSmallFiles:
      break;
  }
  return facts.small_files;
}

// The names' own rule: others can't be taken out, since nobody can have put them there.
bool IsName(absl::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace

Readoption::Readoption(std::shared_ptr<host::HostTier> tier, device::Gpus* gpus, Shelf* shelf,
                       const DecodeCard& decode_card, const pipeline::DecodeIndex& decode_index)
    : tier_(std::move(tier)),
      gpus_(gpus),
      shelf_(shelf),
      decode_card_(decode_card),
      decode_index_(decode_index) {}

std::map<std::string, Readoption::Place> Readoption::SortByPlace(
    std::vector<fd_store::StoredFd> stored) {
  std::map<std::string, Place> places;
  for (fd_store::StoredFd& one : stored) {
    if (std::optional<StoredName> name = StoredName::Parse(one.name)) {
      places[name->place].fds.emplace(name->part, std::move(one.fd));
      continue;
    }
    if (std::optional<StoredCopyName> name = StoredCopyName::Parse(one.name)) {
      places[name->place].copies.emplace(name->gpu, std::move(one.fd));
      continue;
    }
    refused.push_back({.place = PrintableText(one.name),
                       .uri = {},
                       .revision = {},
                       .why = Refused("no descriptor of a model is called so")});
    if (IsName(one.name)) {
      shelf_->Drop(one.name);
    }
  }
  return places;
}

void Readoption::Run(std::vector<fd_store::StoredFd> stored) {
  std::vector<Candidate> candidates = ReadCards(SortByPlace(std::move(stored)));
  // First what can't be freed anyway, then what is pinned, then what was used last.
  const auto order = [](const Candidate& candidate) {
    return std::tuple(candidate.held, candidate.pinned, candidate.last_used_at);
  };
  std::sort(candidates.begin(), candidates.end(),
            [&](const Candidate& a, const Candidate& b) { return order(a) > order(b); });
  for (Candidate& candidate : candidates) {
    Take(std::move(candidate));
  }
  std::sort(models.begin(), models.end(),
            [](const Readopted& a, const Readopted& b) { return a.last_used_at < b.last_used_at; });
}

std::vector<Readoption::Candidate> Readoption::ReadCards(std::map<std::string, Place> places) {
  std::vector<Candidate> candidates;
  for (auto& [place, found] : places) {
    absl::StatusOr<Candidate> candidate = ReadCard(place, std::move(found.fds));
    if (candidate.ok()) {
      candidates.push_back(*std::move(candidate));
      candidates.back().copies = std::move(found.copies);
      continue;
    }
    refused.push_back({.place = place, .uri = {}, .revision = {}, .why = candidate.status()});
    Shelf::Kept kept = shelf_->PlaceOf(place);
    for (const Part part : kParts) {
      kept.Drop(part);
    }
    for (const auto& [gpu, fd] : found.copies) {
      kept.DropCopy(gpu);
    }
  }
  absl::flat_hash_map<std::string, uint64_t> highest;
  for (const Candidate& candidate : candidates) {
    uint64_t& rank = highest[candidate.facts.index.uri.ToString()];
    rank = std::max(rank, candidate.card->rank());
  }
  for (Candidate& candidate : candidates) {
    // Each rank is one model's; should two have the same, one of them.
    uint64_t& rank = highest[candidate.facts.index.uri.ToString()];
    candidate.current = rank > 0 && candidate.card->rank() == rank;
    rank = candidate.current ? 0 : rank;
  }
  return candidates;
}

absl::StatusOr<Readoption::Candidate> Readoption::ReadCard(absl::string_view place, Fds fds) {
  Candidate candidate;
  candidate.place = std::string(place);
  const auto card = fds.find(Part::kCard);
  if (card == fds.end()) {
    return Refused("it has no card");
  }
  if (fds.count(Part::kCard) > 1) {
    return Refused("it has several cards");
  }
  absl::StatusOr<Card::Found> found = Card::Open(card->second);
  if (!found.ok()) {
    return Annotate(found.status(), WordFor(Part::kCard));
  }
  candidate.card = std::move(found->card);
  candidate.pinned = candidate.card->pinned_by(Pinner::kOperator);
  candidate.last_used_at = candidate.card->last_used_at();
  ASSIGN_OR_RETURN(candidate.facts, decode_card_(found->body));
  const auto weights = fds.find(Part::kWeights);
  candidate.held = weights != fds.end() && candidate.facts.weights.has_value() &&
                   host::CheckSealed(weights->second, candidate.facts.weights->bytes).ok() &&
                   host::HeldByOthers(weights->second);
  candidate.fds = std::move(fds);
  return candidate;
}

void Readoption::Take(Candidate candidate) {
  Shelf::Kept kept = shelf_->PlaceOf(candidate.place);
  kept.KeepCard(candidate.fds.find(Part::kCard)->second);
  Segments segments;
  NotReadopted refusal = {.place = candidate.place,
                          .uri = candidate.facts.index.uri,
                          .revision = candidate.facts.index.revision,
                          .why = TakeParts(candidate, kept, segments),
                          .pinned = candidate.current && candidate.pinned};
  if (candidate.current && refusal.why.ok()) {
    absl::StatusOr<SharedModel> model = Assemble(candidate, segments);
    std::vector<LeftCopy> copies;
    if (model.ok()) {
      copies = TakeCopies(candidate, kept, (*model)->index);
    }
    if (model.ok() && (*model)->weights == nullptr && copies.empty()) {
      model = Refused("it was only on GPUs, and no copy is left");
    }
    if (model.ok()) {
      models.push_back({.model = *std::move(model),
                        .policy = candidate.facts.policy,
                        .shelved = {.card = std::move(candidate.card), .place = std::move(kept)},
                        .loaded_at = candidate.facts.loaded_at,
                        .last_used_at = candidate.last_used_at,
                        .copies = std::move(copies)});
      return;
    }
    refusal.why = model.status();
  }
  for (const auto& [gpu, fd] : candidate.copies) {
    kept.DropCopy(gpu);
  }
  if (!refusal.why.ok()) {
    refused.push_back(std::move(refusal));
  }
  candidate.card->SetRank(0);
  for (auto& [part, segment] : segments) {
    leaving.push_back(std::move(segment));
  }
}

absl::Status Readoption::TakeParts(Candidate& candidate, Shelf::Kept& kept, Segments& segments) {
  absl::Status why;
  for (const Part part : kParts) {
    const std::optional<KeptMemory> memory = MemoryIn(candidate.facts, part);
    const bool there = candidate.fds.contains(part);
    if (!memory.has_value()) {
      if (there && part != Part::kCard) {
        kept.Drop(part);  // which nobody will look at
      }
      continue;
    }
    if (!there) {
      // Of what leaves, that is gone already.
      why.Update(candidate.current ? Refused(absl::StrCat(WordFor(part), ": not there"))
                                   : absl::OkStatus());
      continue;
    }
    auto segment = TakePart(candidate, part, *memory, kept);
    if (segment.ok()) {
      segments[part] = *std::move(segment);
    } else {
      kept.Drop(part);
      why.Update(Annotate(segment.status(), WordFor(part)));
    }
  }
  return why;
}

absl::StatusOr<std::shared_ptr<host::HostSegment>> Readoption::TakePart(Candidate& candidate,
                                                                        Part part,
                                                                        const KeptMemory& memory,
                                                                        Shelf::Kept& kept) {
  const auto [first, last] = candidate.fds.equal_range(part);
  for (auto fd = first; fd != last; ++fd) {
    ASSIGN_OR_RETURN(const host::MemoryId id, host::MemoryIdOf(fd->second));
    if (id != memory.id) {
      return Refused("not the memory that its card names");
    }
  }
  const uint64_t bytes = AlignUp(memory.bytes, kPageBytes);
  RETURN_IF_ERROR(host::CheckSealed(first->second, bytes));
  ASSIGN_OR_RETURN(host::Reservation room, tier_->ReserveFilled(bytes));
  const pipeline::ModelIndex& index = candidate.facts.index;
  const std::string label = pipeline::SegmentLabel(index.uri, index.revision);
  ASSIGN_OR_RETURN(std::shared_ptr<host::HostSegment> segment,
                   host::HostSegment::Adopt(part == Part::kWeights ? label
                                            : part == Part::kIndex ? absl::StrCat(label, " index")
                                                                   : absl::StrCat(label, " files"),
                                            std::move(first->second), bytes, std::move(room),
                                            candidate.card->holders()));
  if (std::distance(first, last) > 1) {
    kept.Drop(part);  // Others, opened by themselves, would hold the memory for ever.
  }
  kept.Keep(part, *segment);
  return segment;
}

std::vector<LeftCopy> Readoption::TakeCopies(Candidate& candidate, Shelf::Kept& kept,
                                             const pipeline::ModelIndex& index) {
  std::vector<LeftCopy> taken;
  for (auto first = candidate.copies.begin(); first != candidate.copies.end();) {
    const GpuId gpu = first->first;
    const auto last = candidate.copies.upper_bound(gpu);
    auto copy =
        TakeCopy(gpu, std::move(first->second), std::distance(first, last), index.device_bytes);
    first = last;
    if (copy.ok()) {
      copy->kept = kept.HoldCopy(gpu);
      taken.push_back(*std::move(copy));
      continue;
    }
    refused.push_back({.place = candidate.place,
                       .uri = index.uri,
                       .revision = index.revision,
                       .why = copy.status(),
                       .gpu = gpu});
    kept.DropCopy(gpu);
  }
  return taken;
}

absl::StatusOr<LeftCopy> Readoption::TakeCopy(const GpuId& gpu, Fd exported, size_t of_that_name,
                                              uint64_t device_bytes) {
  if (of_that_name > 1) {
    return Refused("several descriptors are called so");
  }
  if (gpus_ == nullptr) {
    return Error(Reason::kDeviceUnavailable, "this node has no GPU that weightd can use");
  }
  ASSIGN_OR_RETURN(device::Reservation room, gpus_->ReserveHeld(gpu, device_bytes));
  return LeftCopy{
      .gpu = gpu, .exported = std::move(exported), .room = std::move(room), .kept = nullptr};
}

absl::StatusOr<SharedModel> Readoption::Assemble(Candidate& candidate, const Segments& segments) {
  CardFacts& facts = candidate.facts;
  pipeline::ResidentModel model;
  if (facts.weights.has_value()) {
    model.weights = segments.at(Part::kWeights);
  }
  model.encoded_index = segments.at(Part::kIndex);
  model.encoded_index_bytes = facts.encoded_index.bytes;
  if (facts.small_files.has_value()) {
    model.small_files = segments.at(Part::kSmallFiles);
    model.small_file_bytes = facts.small_files->bytes;
  }
  const auto encoded = model.encoded_index->bytes().first(model.encoded_index_bytes);
  const absl::string_view text(reinterpret_cast<const char*>(encoded.data()), encoded.size());
  if (source::HashOf(source::ChecksumKind::kSha256, text) != facts.encoded_index_sha256) {
    return Refused("the digest of its index is wrong");
  }
  ASSIGN_OR_RETURN(pipeline::ModelIndex decoded, decode_index_(text));
  model.index = std::move(facts.index);
  const uint64_t segment_bytes =
      model.weights != nullptr ? model.weights->size() : decoded.segment_bytes;
  if (decoded.revision != model.index.revision || decoded.segment_bytes != segment_bytes) {
    return Refused("its index is of another segment");
  }
  for (const pipeline::Extent& extent : model.index.extents) {
    if (extent.offset + extent.bytes.size() > segment_bytes) {
      return Refused("a file lies outside of the segment");
    }
  }
  for (const pipeline::Piece& piece : decoded.pieces) {
    if (piece.file >= model.index.files.size()) {
      return Refused("a tensor is of no file");
    }
  }
  model.index.pieces = std::move(decoded.pieces);
  model.index.metadata = std::move(decoded.metadata);
  model.index.segment_bytes = decoded.segment_bytes;
  model.index.device_bytes = decoded.device_bytes;
  ASSIGN_OR_RETURN(std::vector<pipeline::Digests::Header> headers,
                   pipeline::Digests::RestoreHeaders(facts.headers));
  model.digests = std::make_shared<pipeline::Digests>(model.index, std::move(headers));
  ASSIGN_OR_RETURN(model.index_memory, tier_->ReserveFilled(pipeline::HeapBytes(model.index)));
  return std::make_shared<const pipeline::ResidentModel>(std::move(model));
}

}  // namespace weightd::cache
