#include "daemon/cache/catalog.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"

namespace weightd::cache {
namespace {

// Clients may ask for as many absent models as they like; what we remember of them is bounded.
constexpr size_t kRememberedFailures = 256;

}  // namespace

bool MatchesRevision(const RevisionId& revision, absl::string_view first_digits) {
  return absl::StartsWith(revision.hex(), first_digits);
}

bool ComesFree(const SharedModel& model) {
  const auto free = [](const std::shared_ptr<host::HostSegment>& segment) {
    return segment == nullptr || (segment.use_count() == 1 && !segment->HeldByOthers());
  };
  return model.use_count() == 1 && free(model->weights) && free(model->encoded_index) &&
         free(model->small_files);
}

const Entry* Catalog::Find(EntryId id) const {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : &found->second;
}

const Entry* Catalog::Find(const Uri& uri, absl::string_view first_digits) const {
  const Record* record = FindRecord(uri);
  if (record == nullptr) {
    return nullptr;
  }
  const Entry* current = Find(record->current);
  if (current != nullptr && MatchesRevision(current->revision(), first_digits)) {
    return current;
  }
  if (first_digits.empty()) {
    return nullptr;
  }
  for (const EntryId id : record->superseded) {
    const Entry* entry = Find(id);
    if (MatchesRevision(entry->revision(), first_digits)) {
      return entry;
    }
  }
  return nullptr;
}

Record* Catalog::FindRecord(const Uri& uri) {
  const auto found = records_.find(uri.ToString());
  return found == records_.end() ? nullptr : &found->second;
}

const Record* Catalog::FindRecord(const Uri& uri) const {
  const auto found = records_.find(uri.ToString());
  return found == records_.end() ? nullptr : &found->second;
}

Record& Catalog::RecordOf(const Uri& uri) {
  Record& record = records_[uri.ToString()];
  record.uri = uri;
  return record;
}

EntryId Catalog::Add(const Uri& uri, const source::ReadPolicy& policy, SharedModel model,
                     absl::Time now, Shelf::Shelved shelved) {
  const EntryId id(++last_id_);
  order_.Add(id, model->charged_bytes());
  entries_.emplace(id, Entry{.id = id,
                             .uri = uri,
                             .policy = policy,
                             .model = std::move(model),
                             .copies = {},
                             .leases = 0,
                             .holds = 0,
                             .loaded_at = now,
                             .last_used_at = now,
                             .card = std::move(shelved.card),
                             .place = std::move(shelved.place)});
  Use(At(id), now);
  return id;
}

Leaver Catalog::MakeCurrent(EntryId id, absl::Duration uptime) {
  Record& record = RecordOf(At(id).uri);
  const EntryId previous = std::exchange(record.current, id);
  std::erase(record.superseded, id);
  record.let_go = false;
  record.stale = false;
  record.last_error.clear();
  NoteChecked(record.uri, absl::Now(), uptime);
  WriteCard(record);
  if (const std::shared_ptr<Card>& card = At(id).card; card != nullptr && previous != id) {
    card->SetRank(++last_rank_);
  }
  if (previous == id) {
    return {};
  }
  if (record.pinned) {
    order_.Hold(id);
  }
  if (previous == EntryId()) {
    return {};
  }
  if (record.pinned) {
    order_.Unhold(previous);
  }
  record.superseded.push_back(previous);
  return RemoveIfOver(previous);
}

void Catalog::AddLease(EntryId id, absl::string_view listener, const std::optional<GpuId>& gpu,
                       absl::Time now) {
  Entry& entry = At(id);
  ++entry.leases;
  ++entry.uses;
  Use(entry, now);
  if (entry.card != nullptr) {
    entry.card->AddHolder(listener);
  }
  order_.Hold(id);
  if (gpu.has_value()) {
    ++entry.copies.at(*gpu).leases;
    gpu_orders_[*gpu].Hold(id);
  }
}

Leaver Catalog::EndLease(EntryId id, const std::optional<GpuId>& gpu, absl::Time now) {
  Entry& entry = At(id);
  --entry.leases;
  Use(entry, now);
  order_.Unhold(id);
  if (gpu.has_value()) {
    --entry.copies.at(*gpu).leases;
    gpu_orders_[*gpu].Unhold(id);
  }
  return RemoveIfOver(id);
}

void Catalog::Hold(EntryId id) {
  ++At(id).holds;
  order_.Hold(id);
}

Leaver Catalog::Unhold(EntryId id, bool used) {
  --At(id).holds;
  if (used) {
    order_.Unhold(id);
  } else {
    order_.UnholdUnused(id);
  }
  return RemoveIfOver(id);
}

Leaver Catalog::RemoveIfOver(EntryId id) {
  const Entry& entry = At(id);
  const Record& record = *FindRecord(entry.uri);
  const bool let_go = record.current == id && record.let_go;
  if ((record.current == id && !let_go) || entry.leases > 0 || entry.holds > 0) {
    return {};
  }
  Leaver leaver = Remove(id);
  leaver.let_go = let_go;
  return leaver;
}

Leaver Catalog::LetGo(EntryId id) {
  Record& record = *FindRecord(At(id).uri);
  record.let_go = !record.pinned;
  return RemoveIfOver(id);
}

void Catalog::Touch(EntryId id, absl::Time now) {
  Entry& entry = At(id);
  Use(entry, now);
  FindRecord(entry.uri)->let_go = false;
  order_.Hold(id);
  order_.Unhold(id);
}

bool Catalog::SetPinned(const Uri& uri, Pinner pinner, bool pinned) {
  Record* record = FindRecord(uri);
  (pinner == Pinner::kOperator ? record->operator_pin : record->config_pin) = pinned;
  if (pinner == Pinner::kOperator && !pinned) {
    record->config_pin = false;
  }
  WriteCard(*record);
  const bool wanted = record->operator_pin || record->config_pin;
  if (record->pinned == wanted) {
    return false;
  }
  record->pinned = wanted;
  if (wanted) {
    record->let_go = false;
    order_.Hold(record->current);
  } else {
    order_.Unhold(record->current);
  }
  return true;
}

Leaver Catalog::Remove(EntryId id) {
  order_.Remove(id);
  const auto found = entries_.find(id);
  const Uri uri = found->second.uri;
  if (found->second.card != nullptr) {
    found->second.card->SetRank(0);
  }
  Leaver leaver = {.model = std::move(found->second.model), .copies = {}, .let_go = false};
  for (auto& [gpu, copy] : found->second.copies) {
    gpu_orders_[gpu].Remove(id);
    leaver.copies.push_back(std::move(copy.segment));
  }
  for (auto& [gpu, left] : found->second.left) {
    leaver.left.push_back(std::move(left));
  }
  entries_.erase(found);

  Record& record = RecordOf(uri);
  std::erase(record.superseded, id);
  if (record.current == id) {
    record.current = EntryId();
    record.pinned = false;
    record.operator_pin = false;
    record.config_pin = false;
    record.let_go = false;
    record.stale = false;
  }
  Tidy(uri);
  return leaver;
}

void Catalog::Tidy(const Uri& uri) {
  const auto found = records_.find(uri.ToString());
  if (found == records_.end()) {
    return;
  }
  const Record& record = found->second;
  if (record.current == EntryId() && record.superseded.empty() && record.last_error.empty()) {
    records_.erase(found);
  }
}

void Catalog::NoteFailure(const Uri& uri, absl::string_view message) {
  RecordOf(uri).last_error = std::string(message);
  std::erase(failures_, uri);
  failures_.push_back(uri);
  while (failures_.size() > kRememberedFailures) {
    const Uri oldest = std::move(failures_.front());
    failures_.pop_front();
    Record* record = FindRecord(oldest);
    if (record != nullptr && record->current == EntryId()) {
      record->last_error.clear();
      Tidy(oldest);
    }
  }
}

std::vector<EntryId> Catalog::PickVictims(uint64_t bytes) const {
  return order_.PickVictims(bytes, [this](EntryId id) {
    const Entry& entry = entries_.at(id);
    return entry.on_host() && ComesFree(entry.model);
  });
}

Catalog::Stuck Catalog::StuckBytes() const {
  Stuck stuck;
  for (const auto& [id, entry] : entries_) {
    const uint64_t bytes = entry.model->charged_bytes();
    if (entry.leases > 0) {
      stuck.leased += bytes;
    } else if (order_.InUse(id)) {
      stuck.pinned += bytes;
    } else if (!ComesFree(entry.model)) {
      stuck.mapped += bytes;
    }
  }
  return stuck;
}

std::vector<const Entry*> Catalog::LetGoOf(absl::string_view listener, EntryId but) const {
  std::vector<const Entry*> entries;
  for (const auto& [id, entry] : entries_) {
    // What is copied to a GPU is mapped by us.
    if (id != but && entry.leases == 0 && entry.holds == 0 && entry.on_host() &&
        entry.model->weights->GivenTo(listener)) {
      entries.push_back(&entry);
    }
  }
  return entries;
}

ModelSnapshot Catalog::Describe(const Entry& entry) const {
  const Record& record = *FindRecord(entry.uri);
  const bool current = record.current == entry.id;
  const pipeline::ModelIndex& index = entry.model->index;
  std::vector<GpuCopySnapshot> copies;
  copies.reserve(entry.copies.size());
  for (const auto& [gpu, copy] : entry.copies) {
    copies.push_back({.gpu = gpu, .bytes = copy.segment->bytes(), .leases = copy.leases});
  }
  return {.uri = entry.uri,
          .state = current ? ModelState::kResident : ModelState::kDraining,
          .revision = index.revision,
          .host_bytes = entry.model->charged_bytes(),
          .tensor_count = index.pieces.size(),
          .file_count = static_cast<uint32_t>(index.files.size()),
          .leases = entry.leases,
          .pinned = current && record.pinned,
          .stale = current && record.stale,
          .progress = {},
          .loaded_at = entry.loaded_at,
          .last_used_at = entry.last_used_at,
          .last_error = current ? record.last_error : std::string(),
          .uses = entry.uses,
          .readopted = entry.readopted,
          .copies = std::move(copies)};
}

}  // namespace weightd::cache
