// What outlives this process, and what earlier ones left: models that are kept in a store of
// descriptors, see Shelf, and those of them that become models again, see Readoption.

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"
#include "daemon/cache/readoption.h"

namespace weightd::cache {

Loaded NodeCache::Keep(pipeline::ResidentModel model, const source::ReadPolicy& policy,
                       absl::Span<const SharedCopy> copies) {
  const bool kept_on_gpu = std::any_of(copies.begin(), copies.end(), [](const SharedCopy& copy) {
    return copy->handles() == device::Handles::kDescriptor;
  });
  Loaded loaded;
  // As exactly as cards have it.
  loaded.at = absl::FromUnixMicros(absl::ToUnixMicros(absl::Now()));
  if (shelf_ != nullptr && (model.weights != nullptr || kept_on_gpu)) {
    absl::StatusOr<Shelf::Shelved> shelved = shelf_->Keep(model, policy, loaded.at);
    if (shelved.ok()) {
      loaded.shelved = *std::move(shelved);
    } else {
      Publish(EventKind::kNotKept, model.index.uri, model.index.revision, 0, shelved.status());
    }
  }
  loaded.model = std::make_shared<const pipeline::ResidentModel>(std::move(model));
  return loaded;
}

void NodeCache::Readopt(std::vector<fd_store::StoredFd> stored) {
  if (shelf_ == nullptr) {
    return;
  }
  cache::Readoption found(tier_, gpus_, shelf_.get(), options_.decode_card, options_.decode_index);
  found.Run(std::move(stored));
  const absl::Time now = absl::Now();
  absl::MutexLock lock(&mutex_);
  for (const NotReadopted& one : found.refused) {
    // Of a copy the model may be elsewhere.
    NoteNotReadopted(one, /*is_model=*/!one.gpu.has_value());
  }
  for (Readopted& one : found.models) {
    const EntryId id = catalog_.AddReadopted(one.policy, one.model, std::move(one.shelved),
                                             one.loaded_at, now, Uptime());
    const Entry& entry = *catalog_.Find(id);
    Publish(EventKind::kReadopted, entry.uri, entry.revision(), entry.model->charged_bytes());
    // Else once a copy is back.
    readoption_.readopted += entry.on_host() ? 1 : 0;
    if (tier_->options().mlock) {
      LockLater(std::move(one.model));
    }
    for (LeftCopy& copy : one.copies) {
      TakeBackLater(id, std::move(copy));
    }
  }
  if (!found.leaving.empty()) {
    departures_.FreeLater(std::move(found.leaving));
  }
  WakeTickerBefore(Uptime());
}

void NodeCache::NoteNotReadopted(const NotReadopted& one, bool is_model) {
  const absl::Status why =
      one.place.empty() ? one.why : Annotate(one.why, absl::StrCat("descriptors ", one.place));
  readoption_.not_readopted += is_model ? 1 : 0;
  readoption_.pins_lost += one.pinned ? 1 : 0;
  if (is_model && readoption_.failures.size() < ReadoptionSnapshot::kMostFailures) {
    readoption_.failures.push_back({.uri = one.uri, .pinned = one.pinned, .why = why});
  }
  events_.Publish({.time = absl::Now(),
                   .kind = EventKind::kNotReadopted,
                   .uri = one.uri,
                   .revision = one.revision,
                   .lease = {},
                   .error = why,
                   .gpu = one.gpu,
                   .pin_lost = one.pinned});
}

ReadoptionSnapshot NodeCache::Readoption() const {
  absl::MutexLock lock(&mutex_);
  return readoption_;
}

// Touching every page takes seconds where they are small, and nobody is to wait for that.
void NodeCache::LockLater(SharedModel model) {
  ++locking_;
  locking_thread_.Run([this, weak = std::weak_ptr(model)] { Lock(weak); });
}

void NodeCache::Lock(const std::weak_ptr<const pipeline::ResidentModel>& model) {
  for (bool more = true; more && !shutdown_.cancelled();) {
    // Held only for a step: it may leave in between.
    const SharedModel held = model.lock();
    more = false;
    if (held == nullptr) {
      break;
    }
    for (host::HostSegment* const segment :
         {held->encoded_index.get(), held->small_files.get(), held->weights.get()}) {
      more = more || (segment != nullptr && segment->LockMore());
    }
  }
  absl::MutexLock lock(&mutex_);
  --locking_;
  memory_returned_.SignalAll();
}

}  // namespace weightd::cache
