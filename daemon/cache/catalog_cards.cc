// What the catalog says on cards, for the next daemon, and takes from those of an earlier one.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "daemon/cache/catalog.h"

namespace weightd::cache {
namespace {

// What a card says is not to be believed: there have to be higher ones.
constexpr uint64_t kHighestRank = uint64_t{1} << 62;

}  // namespace

EntryId Catalog::AddReadopted(const source::ReadPolicy& policy, SharedModel model,
                              Shelf::Shelved shelved, absl::Time loaded_at, absl::Time now,
                              absl::Duration uptime) {
  const std::shared_ptr<Card> card = std::move(shelved.card);
  const absl::Time last_used_at = card->last_used_at();
  const absl::Time checked_at = card->checked_at();
  const bool pinned = card->pinned_by(Pinner::kOperator);
  last_rank_ = std::max(last_rank_, std::min(card->rank(), kHighestRank));
  const Uri uri = model->index.uri;
  const EntryId id = Add(uri, policy, std::move(model), loaded_at);
  // What the config wants pinned it says itself.
  Record& record = RecordOf(uri);
  record.operator_pin = pinned;
  record.pinned = pinned || record.config_pin;
  Entry& entry = At(id);
  entry.readopted = true;
  entry.uses = card->uses();
  entry.card = card;
  entry.place = std::move(shelved.place);
  MakeCurrent(id, uptime);
  NoteChecked(uri, checked_at, uptime - (now - checked_at));
  Use(entry, last_used_at);
  return id;
}

void Catalog::Use(Entry& entry, absl::Time now) {
  entry.last_used_at = now;
  if (entry.card != nullptr) {
    entry.card->SetUsed(entry.uses, now);
  }
}

void Catalog::WriteCard(const Record& record) {
  const auto current = entries_.find(record.current);
  if (current == entries_.end() || current->second.card == nullptr) {
    return;
  }
  current->second.card->SetPinned(Pinner::kOperator, record.operator_pin);
  current->second.card->SetPinned(Pinner::kConfig, record.config_pin);
}

void Catalog::NoteChecked(const Uri& uri, absl::Time now, absl::Duration uptime) {
  Record& record = *FindRecord(uri);
  record.checked_at = uptime;
  const auto current = entries_.find(record.current);
  if (current != entries_.end() && current->second.card != nullptr) {
    current->second.card->SetCheckedAt(now);
  }
}

}  // namespace weightd::cache
