#include "daemon/cache/readoption.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
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

}  // namespace

Readoption::Readoption(std::shared_ptr<host::HostTier> tier, device::Gpus* gpus, Shelf* shelf,
                       Means means)
    : tier_(std::move(tier)), gpus_(gpus), shelf_(shelf), means_(std::move(means)) {}

void Readoption::Run(std::vector<fd_store::StoredFd> stored) {
  std::vector<Candidate> candidates = ReadCards(SortByPlace(std::move(stored)));
  // First what can't be freed anyway, then what is pinned, by whomever, then what was used last.
  // What is here by now takes none of them the room.
  const auto order = [](const Candidate& candidate) {
    return std::tuple(!candidate.here, candidate.held, candidate.wanted, candidate.last_used_at);
  };
  std::sort(candidates.begin(), candidates.end(),
            [&](const Candidate& a, const Candidate& b) { return order(a) > order(b); });
  for (Candidate& candidate : candidates) {
    Take(std::move(candidate));
  }
  std::sort(models.begin(), models.end(),
            [](const Readopted& a, const Readopted& b) { return a.last_used_at < b.last_used_at; });
}

void Readoption::Take(Candidate candidate) {
  Shelf::Kept kept = shelf_->PlaceOf(candidate.place, candidate.facts.index.uri.Redacted());
  kept.KeepCard(candidate.fds.find(Part::kCard)->second);
  Segments segments;
  NotReadopted refusal = {.place = candidate.place,
                          .uri = candidate.facts.index.uri,
                          .revision = candidate.facts.index.revision,
                          .why = TakeParts(candidate, kept, segments),
                          .pinned = candidate.current && candidate.pinned};
  if (candidate.current) {
    refusal.why.Update(CheckVerified(candidate));
  }
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

absl::Status Readoption::CheckVerified(const Candidate& candidate) const {
  const pipeline::ModelIndex& index = candidate.facts.index;
  // Else there is nothing to look at.
  const bool has_checksums = index.tensor_proof != pipeline::TensorProof();
  if (!has_checksums || IsAsStrict(candidate.card->verified_as(), means_.verify_of(index.uri))) {
    return absl::OkStatus();
  }
  return Refused(
      "by now the config wants its tensors' checksums looked at more closely (verify) than they "
      "were as it was loaded");
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
    const absl::Status taken = TakePart(candidate, part, *memory, kept, segments);
    why.Update(Annotate(taken, WordFor(part)));
    if (!segments.contains(part)) {
      kept.Drop(part);
    }
  }
  return why;
}

absl::Status Readoption::TakePart(Candidate& candidate, Part part, const KeptMemory& memory,
                                  Shelf::Kept& kept, Segments& segments) {
  const auto [first, last] = candidate.fds.equal_range(part);
  for (auto fd = first; fd != last; ++fd) {
    ASSIGN_OR_RETURN(const host::MemoryId id, host::MemoryIdOf(fd->second));
    if (id != memory.id) {
      return Refused("not the memory that its card names");
    }
  }
  const uint64_t bytes = AlignUp(memory.bytes, kPageBytes);
  RETURN_IF_ERROR(host::CheckSealed(first->second, bytes));
  ASSIGN_OR_RETURN(Room room, RoomFor(first->second, bytes));
  const pipeline::ModelIndex& index = candidate.facts.index;
  const std::string label = pipeline::SegmentLabel(index.uri, index.revision);
  ASSIGN_OR_RETURN(
      std::shared_ptr<host::HostSegment> segment,
      host::HostSegment::Adopt(part == Part::kWeights ? label
                               : part == Part::kIndex ? absl::StrCat(label, " index")
                                                      : absl::StrCat(label, " files"),
                               std::move(first->second), bytes, std::move(room.reservation),
                               candidate.card->holders()));
  if (std::distance(first, last) > 1) {
    kept.Drop(part);  // Others, opened by themselves, would hold the memory for ever.
  }
  kept.Keep(part, *segment);
  segments[part] = std::move(segment);
  return room.refusal;
}

absl::StatusOr<Readoption::Room> Readoption::RoomFor(const Fd& memory, uint64_t bytes) {
  absl::StatusOr<host::Reservation> room = tier_->ReserveFilled(bytes);
  if (room.ok()) {
    return Room{.reservation = *std::move(room), .refusal = {}};
  }
  if (!host::HeldByOthers(memory)) {
    return room.status();
  }
  return Room{.reservation = tier_->ReserveHeld(bytes),
              .refusal = Error(ReasonOf(room.status()),
                               absl::StrCat(room.status().message(),
                                            "; clients still map it: it drains, and counts "
                                            "until they have let go of it"),
                               "end those clients, or raise the host budget in the config")};
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
  ASSIGN_OR_RETURN(pipeline::ModelIndex decoded, means_.decode_index(text));
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
