// Copies on GPUs that an earlier daemon left. A GPU's worker has to look at each first, and may
// have to start for that, or hang: meanwhile its model is granted from wherever else it is, and
// whoever wants this copy waits for it as for one that is made (a promotion).

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/holder.h"
#include "daemon/cache/node_cache.h"
#include "daemon/cache/readoption.h"

namespace weightd::cache {

std::shared_ptr<void> NodeCache::KeepCopy(const Entry& entry, device::Segment& segment) {
  if (segment.handles() != device::Handles::kDescriptor) {
    return nullptr;
  }
  // Else its worker has just ended, which takes it out again.
  const absl::StatusOr<Fd> exported = segment.OpenForClient();
  return exported.ok() ? entry.place.KeepCopy(segment.gpu(), *exported) : nullptr;
}

void NodeCache::TakeBackLater(EntryId id, LeftCopy left) {
  auto promotion = std::make_shared<Promotion>();
  promotion->entry = id;
  promotion->gpu = left.gpu;
  promotion->left = std::move(left);
  catalog_.Hold(id);
  promotions_.Add(promotion);
  promoting_.Run([this, promotion = std::move(promotion)] { TakeBack(promotion); });
}

void NodeCache::TakeBack(const Promotions::Shared& promotion) {
  device::ImportPlan plan;
  {
    absl::MutexLock lock(&mutex_);
    if (promotion->cancellation.cancelled()) {
      return;
    }
    const pipeline::ModelIndex& index = catalog_.Find(promotion->entry)->model->index;
    plan = {.reservation = std::move(promotion->left->room),
            .device_bytes = index.device_bytes,
            .mark = MarkOf(index.revision),
            .exported = std::move(promotion->left->exported)};
  }
  // Dropped, if nobody takes it, without the lock.
  absl::StatusOr<SharedCopy> copy = gpus_->Import(std::move(plan), promotion->cancellation);
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    if (!promotions_.Take(promotion)) {
      return;
    }
    TakenBack(*promotion, copy, outcomes);
  }
  Tell(std::move(outcomes));
}

void NodeCache::TakenBack(Promotion& promotion, absl::StatusOr<SharedCopy> copy,
                          Outcomes& outcomes) {
  const EntryId id = promotion.entry;
  const Entry& entry = *catalog_.Find(id);
  const Uri uri = entry.uri;
  const absl::Status status = copy.ok() ? CheckArrival(**copy) : copy.status();
  if (status.ok()) {
    PublishOn(promotion.gpu, EventKind::kReadopted, uri, entry.revision(), (*copy)->bytes());
    catalog_.AddCopy(id, *std::move(copy), std::move(promotion.left->kept));
    readoption_.readopted += !entry.on_host() && entry.copies.size() == 1 ? 1 : 0;
  }
  const bool nowhere = !entry.on_host() && entry.copies.empty() && entry.holds == 1;
  if (!status.ok()) {
    promotion.left->kept.reset();
    const bool pinned = entry.card != nullptr && entry.card->pinned_by(Pinner::kOperator);
    NoteNotReadopted({.place = {},
                      .uri = uri,
                      .revision = entry.revision(),
                      .why = Annotate(status, "its copy on this GPU"),
                      .pinned = nowhere && pinned,
                      .gpu = promotion.gpu},
                     nowhere);
  }
  for (Interest& interest : std::exchange(promotion.interests, {})) {
    if (!nowhere) {
      Place(id, std::move(interest), outcomes);
    } else if (interest.may_load) {
      Join(uri, std::move(interest), outcomes);
    } else {
      outcomes.push_back(
          {.interest = std::move(interest),
           .result = Error(Reason::kModelNotResident,
                           absl::StrCat(uri.Redacted(), " is not resident"), "preload it")});
    }
  }
  if (Leaver gone = catalog_.Unhold(id, /*used=*/false)) {
    DropLater(uri, std::move(gone));
  }
  TakeOutIfNowhere({id});
}

void NodeCache::TakeOutIfNowhere(absl::Span<const EntryId> ids) {
  for (const EntryId id : ids) {
    const Entry* entry = catalog_.Find(id);
    if (entry != nullptr && !entry->on_host() && entry->copies.empty() && entry->holds == 0) {
      const Uri uri = entry->uri;
      DropLater(uri, TakeOut(id));
    }
  }
}

}  // namespace weightd::cache
