// What outlives this process, and what earlier ones left: models that are kept in a store of
// descriptors, see Shelf, and those of them that become models again, see Readoption.

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"
#include "daemon/cache/readoption.h"

namespace weightd::cache {
namespace {

constexpr ptrdiff_t kNamesToTell = 5;
constexpr absl::string_view kLoadedAgain =
    "nothing: it was let go of, and is loaded again when somebody asks for it";

}  // namespace

Loaded NodeCache::Keep(pipeline::ResidentModel model, const source::ReadPolicy& policy,
                       pipeline::VerifyPolicy asked, absl::Span<const SharedCopy> copies) {
  const bool kept_on_gpu = std::any_of(copies.begin(), copies.end(), [](const SharedCopy& copy) {
    return copy->handles() == device::Handles::kDescriptor;
  });
  Loaded loaded;
  // As exactly as cards have it.
  loaded.at = absl::FromUnixMicros(absl::ToUnixMicros(absl::Now()));
  if (shelf_ != nullptr && (model.weights != nullptr || kept_on_gpu)) {
    // The config may have changed as the load began: one of both it was.
    const pipeline::VerifyPolicy now = options_.verify_of(model.index.uri);
    absl::StatusOr<Shelf::Shelved> shelved =
        shelf_->Keep(model, policy, IsAsStrict(now, asked) ? asked : now, loaded.at);
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
  ReadoptNow(std::move(stored));
  options_.fd_store->OnLate(
      [this](std::vector<fd_store::StoredFd> late) { ReadoptNow(std::move(late)); });
}

void NodeCache::ReadoptNow(std::vector<fd_store::StoredFd> stored) {
  // Dropped without a lock.
  std::vector<LeftCopy> not_wanted;
  // A load that looks for room finds it before or after these are here.
  absl::MutexLock room(&room_mutex_);
  cache::Readoption found(tier_, gpus_, shelf_.get(),
                          {.decode_card = options_.decode_card,
                           .decode_index = options_.decode_index,
                           .pinned_by_config = options_.pinned_by_config,
                           .verify_of = options_.verify_of,
                           .is_here = [this](const Uri& uri) {
                             absl::MutexLock lock(&mutex_);
                             return catalog_.Find(uri) != nullptr;
                           }});
  found.Run(std::move(stored));
  absl::MutexLock lock(&mutex_);
  NoteUnknown(found.unknown);
  for (NotReadopted& one : found.refused) {
    one.pinned = one.pinned && !TakePinOver(one.uri);
    // Of a copy the model may be elsewhere.
    NoteNotReadopted(one, /*is_model=*/!one.gpu.has_value());
  }
  for (Readopted& one : found.models) {
    // A load that runs may fail, and finds it here if it doesn't.
    if (catalog_.Find(one.model->index.uri) != nullptr) {
      LeaveBehind(one);
      std::move(one.copies.begin(), one.copies.end(), std::back_inserter(not_wanted));
    } else {
      Add(std::move(one));
    }
  }
  if (!found.leaving.empty()) {
    departures_.FreeLater(std::move(found.leaving));
  }
  WakeTickerBefore(Uptime());
}

void NodeCache::Add(Readopted one) {
  const EntryId id = catalog_.AddReadopted(one.policy, one.model, std::move(one.shelved),
                                           one.loaded_at, absl::Now(), Uptime());
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

void NodeCache::LeaveBehind(Readopted& one) {
  const Uri uri = one.model->index.uri;
  if (one.shelved.card->pinned_by(Pinner::kOperator)) {
    TakePinOver(uri);
  }
  NoteNotReadopted({.place = {},
                    .uri = uri,
                    .revision = one.model->index.revision,
                    .why = Error(Reason::kDaemonUnreachable,
                                 "the store gave it only after it had been loaded again",
                                 "nothing: the one that was loaded is served; see in the log why "
                                 "the keeper was late (keeper.away)")},
                   /*is_model=*/true);
  one.shelved.card->SetRank(0);
  WakeTickerBefore(Uptime());
  departures_.DropLater(departures_.Announce(uri, std::move(one.model)));
}

bool NodeCache::TakePinOver(const Uri& uri) {
  const Entry* const here = catalog_.Find(uri);
  if (here != nullptr) {
    SetPinned(*here, Pinner::kOperator, true);
  }
  return here != nullptr;
}

void NodeCache::NoteUnknown(const std::vector<std::string>& names) {
  if (names.empty()) {
    return;
  }
  readoption_.unknown += names.size();
  const auto some = names.begin() + std::min<ptrdiff_t>(std::ssize(names), kNamesToTell);
  readoption_.unknown_why = Error(
      Reason::kVerificationFailed,
      absl::StrCat("descriptors in the store that are of no model: ", readoption_.unknown, ": ",
                   absl::StrJoin(names.begin(), some, ", "), some == names.end() ? "" : ", …"),
      "they were let go of: find out who else stores there");
  events_.Publish({.time = absl::Now(),
                   .kind = EventKind::kNotReadopted,
                   .uri = {},
                   .revision = {},
                   .lease = {},
                   .error = readoption_.unknown_why,
                   .unknown_descriptors = names.size()});
}

void NodeCache::NoteNotReadopted(const NotReadopted& one, bool is_model) {
  absl::Status why =
      one.place.empty() ? one.why : Annotate(one.why, absl::StrCat("descriptors ", one.place));
  if (HintOf(why).empty()) {
    why = Error(ReasonOf(why), why.message(), kLoadedAgain);
  }
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
