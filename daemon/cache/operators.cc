// What operators do to models, and what there is to see.

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

absl::Status NotResident(const Uri& uri) {
  return Error(Reason::kModelNotResident, absl::StrCat(uri.Redacted(), " is not resident"),
               "preload it");
}

absl::Status Evicted(const Uri& uri) {
  return Error(
      Reason::kCancelled,
      absl::StrCat(uri.Redacted(), " is not loaded or verified any further: it is evicted"));
}

ModelSnapshot DescribeAbsent(const Record& record) {
  ModelSnapshot snapshot;
  snapshot.uri = record.uri;
  snapshot.state = ModelState::kAbsent;
  snapshot.last_error = record.last_error;
  return snapshot;
}

absl::Status MayEvict(const Entry& entry, const Record& record) {
  if (record.pinned) {
    return Error(Reason::kModelPinned, absl::StrCat(entry.uri.Redacted(), " is pinned"),
                 "unpin it, or evict it by force");
  }
  if (entry.leases > 0) {
    return Error(Reason::kModelInUse,
                 absl::StrCat(entry.uri.Redacted(), " is in use: ", entry.leases, " lease(s)"),
                 "wait for its clients to end, or evict it by force: its memory is free once they "
                 "unmap it");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EvictResult> NodeCache::Evict(const Uri& uri, bool force) {
  EvictResult result;
  Outcomes outcomes;
  std::vector<Departure> evicted;
  {
    absl::MutexLock lock(&mutex_);
    const Record* record = catalog_.FindRecord(uri);
    const Entry* current = catalog_.Find(uri);
    std::vector<EntryId> leaving;
    if (current != nullptr) {
      if (!force) {
        RETURN_IF_ERROR(MayEvict(*current, *record));
      }
      leaving.push_back(current->id);
    }
    if (record != nullptr && force) {
      leaving.insert(leaving.end(), record->superseded.begin(), record->superseded.end());
    }
    if (leaving.empty() && !flights_.contains(uri.ToString())) {
      return NotResident(uri);
    }
    Abort(uri, Evicted(uri), outcomes);
    for (const EntryId id : leaving) {
      StopPromotions([id](const Promotion& promotion) { return promotion.entry == id; },
                     Evicted(uri), outcomes);
      pin_checks_.Stop([id](const PinCheck& check) { return check.entry == id; }, Evicted(uri),
                       outcomes);
      const Entry* entry = catalog_.Find(id);
      if (entry == nullptr) {
        continue;  // superseded, and only a promotion held it
      }
      for (const auto& [gpu, copy] : entry->copies) {
        (copy.leases > 0 ? result.draining_bytes : result.freed_bytes) += copy.segment->bytes();
      }
      evicted.push_back(Leaves(uri, TakeOut(id)));
    }
  }
  Tell(std::move(outcomes));
  for (const Departure& departure : evicted) {
    (ComesFree(departure.model) ? result.freed_bytes : result.draining_bytes) +=
        departure.model->charged_bytes();
  }
  // Freeing takes long, and the caller's thread serves others.
  for (Departure& departure : evicted) {
    departures_.DropLater(std::move(departure));
  }
  return result;
}

Leaver NodeCache::TakeOut(EntryId id) {
  const Entry& entry = *catalog_.Find(id);
  for (LeaseTable::Ended& lease : leases_.Revoke(id)) {
    PublishLeaseEnd(entry, lease);
    if (lease.segment != nullptr) {
      DropCopyLater(std::move(lease.segment));
    }
  }
  for (const auto& [gpu, copy] : entry.copies) {
    if (copy.leases > 0) {
      copy.segment->Drain();
    }
  }
  // What was superseded left with that; it is only made to end here.
  if (catalog_.Find(entry.uri) == &entry) {
    Publish(EventKind::kEvicted, entry.uri, entry.revision(), entry.model->charged_bytes());
  }
  return catalog_.Remove(id);
}

absl::StatusOr<ModelSnapshot> NodeCache::Pin(const Uri& uri, bool pinned) {
  absl::MutexLock lock(&mutex_);
  const Entry* entry = catalog_.Find(uri);
  if (entry == nullptr) {
    return NotResident(uri);
  }
  SetPinned(*entry, Pinner::kOperator, pinned);
  return catalog_.Describe(*entry);
}

void NodeCache::SetPinned(const Entry& entry, Pinner pinner, bool pinned) {
  if (catalog_.SetPinned(entry.uri, pinner, pinned)) {
    Publish(pinned ? EventKind::kPinned : EventKind::kUnpinned, entry.uri, entry.revision(),
            entry.model->charged_bytes());
  }
}

void NodeCache::PinForConfig(const Uri& uri, bool pinned) {
  absl::MutexLock lock(&mutex_);
  if (const Entry* entry = catalog_.Find(uri); entry != nullptr) {
    SetPinned(*entry, Pinner::kConfig, pinned);
  }
}

void NodeCache::LetGo(const Uri& uri) {
  absl::MutexLock lock(&mutex_);
  const Entry* entry = catalog_.Find(uri);
  if (entry == nullptr) {
    return;
  }
  if (Leaver gone = catalog_.LetGo(entry->id)) {
    DropLater(uri, std::move(gone));
  }
}

std::vector<ModelSnapshot> NodeCache::Models() const {
  std::vector<std::pair<std::string, ModelSnapshot>> models;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [key, record] : catalog_.records()) {
      for (const EntryId id : record.superseded) {
        models.emplace_back(key, catalog_.Describe(*catalog_.Find(id)));
      }
      if (const Entry* current = catalog_.Find(record.current); current != nullptr) {
        models.emplace_back(key, catalog_.Describe(*current));
      } else if (!flights_.contains(key) && record.superseded.empty()) {
        models.emplace_back(key, DescribeAbsent(record));
      }
    }
    for (const auto& [key, flight] : flights_) {
      models.emplace_back(key, Describe(flight));
      models.back().second.loaded_at = absl::InfiniteFuture();
    }
  }
  std::sort(models.begin(), models.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second.loaded_at) < std::tie(b.first, b.second.loaded_at);
  });
  std::vector<ModelSnapshot> ordered;
  ordered.reserve(models.size());
  for (auto& [key, model] : models) {
    if (model.state == ModelState::kLoading) {
      model.loaded_at = absl::InfinitePast();
    }
    ordered.push_back(std::move(model));
  }
  return ordered;
}

absl::StatusOr<ModelSnapshot> NodeCache::Model(const Uri& uri) const {
  absl::MutexLock lock(&mutex_);
  if (const Entry* current = catalog_.Find(uri); current != nullptr) {
    return catalog_.Describe(*current);
  }
  if (const auto flight = flights_.find(uri.ToString()); flight != flights_.end()) {
    return Describe(flight->second);
  }
  if (const Record* record = catalog_.FindRecord(uri); record != nullptr) {
    return record->superseded.empty() ? DescribeAbsent(*record)
                                      : catalog_.Describe(*catalog_.Find(record->superseded[0]));
  }
  return NotResident(uri);
}

absl::StatusOr<std::shared_ptr<const pipeline::ResidentModel>> NodeCache::Resident(
    const Uri& uri) const {
  absl::MutexLock lock(&mutex_);
  const Entry* entry = catalog_.Find(uri);
  if (entry == nullptr) {
    return NotResident(uri);
  }
  return entry->model;
}

uint32_t NodeCache::LoadsRunning() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<uint32_t>(running_.size());
}

}  // namespace weightd::cache
