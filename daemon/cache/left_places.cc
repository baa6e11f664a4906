// What an earlier daemon left, sorted by the models that it is of: places in the store, and what
// their cards say.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "common/printable_text.h"
#include "common/status.h"
#include "daemon/cache/readoption.h"
#include "daemon/host/holders.h"
#include "daemon/host/kept_memory.h"

namespace weightd::cache {
namespace {

absl::Status Refused(absl::string_view why) { return Error(Reason::kVerificationFailed, why); }

// The names' own rule: others can't be taken out, since nobody can have put them there.
bool IsName(absl::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace

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
    if (IsName(one.name)) {
      shelf_->Drop(one.name);
    }
    unknown.push_back(PrintableText(one.name));
  }
  return places;
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
  ChooseCurrent(candidates);
  return candidates;
}

void Readoption::ChooseCurrent(std::vector<Candidate>& candidates) {
  const auto order = [](const Candidate& candidate, uint64_t rank) {
    const bool whole = std::all_of(kParts.begin(), kParts.end(), [&](Part part) {
      return !MemoryIn(candidate.facts, part).has_value() || candidate.fds.contains(part);
    });
    return std::pair(whole, rank);
  };
  struct Best {
    Candidate* candidate = nullptr;
    std::pair<bool, uint64_t> order;
  };
  absl::flat_hash_map<std::string, Best> best;
  for (Candidate& candidate : candidates) {
    // Once: somebody else may change it.
    const uint64_t rank = candidate.card->rank();
    Best& of_model = best[candidate.facts.index.uri.ToString()];
    if (rank > 0 && (of_model.candidate == nullptr || order(candidate, rank) > of_model.order)) {
      of_model = {.candidate = &candidate, .order = order(candidate, rank)};
    }
  }
  for (const auto& [uri, of_model] : best) {
    if (of_model.candidate != nullptr) {
      of_model.candidate->current = true;
    }
  }
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
    return Annotate(found.status(), "its card");
  }
  candidate.card = std::move(found->card);
  candidate.pinned = candidate.card->pinned_by(Pinner::kOperator);
  candidate.last_used_at = candidate.card->last_used_at();
  ASSIGN_OR_RETURN(candidate.facts, means_.decode_card(found->body));
  candidate.wanted = candidate.pinned || (means_.pinned_by_config != nullptr &&
                                          means_.pinned_by_config(candidate.facts.index.uri));
  candidate.here = means_.is_here != nullptr && means_.is_here(candidate.facts.index.uri);
  const auto weights = fds.find(Part::kWeights);
  candidate.held = weights != fds.end() && candidate.facts.weights.has_value() &&
                   host::CheckSealed(weights->second, candidate.facts.weights->bytes).ok() &&
                   host::HeldByOthers(weights->second);
  candidate.fds = std::move(fds);
  return candidate;
}

std::optional<KeptMemory> Readoption::MemoryIn(const CardFacts& facts, Part part) {
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

}  // namespace weightd::cache
