// Copies on GPUs that an earlier daemon left. A GPU's worker has to look at each first, and may
// have to start for that, or hang: meanwhile its model is granted from wherever else it is, and
// whoever wants this copy waits for it as for one that is made (a promotion). Where nothing could
// be learned about it, it lies with its model (Entry::left), charged and kept, until it is tried
// again: after a while, when somebody wants it, or when its GPU has given back another.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/holder.h"
#include "daemon/cache/node_cache.h"
#include "daemon/cache/readoption.h"

namespace weightd::cache {
namespace {

constexpr absl::Duration kFirstRetry = absl::Seconds(1);
constexpr absl::Duration kLastRetry = absl::Minutes(1);

// Whether it failed for something else than what was left there.
bool SaysNothing(const absl::Status& why) {
  return ReasonOf(why) != Reason::kVerificationFailed && ReasonOf(why) != Reason::kPlacementDiffers;
}

// Whether it can't be settled without the copy there.
bool Needs(const Interest& interest, const Entry& entry, const GpuId& gpu) {
  const bool required = std::find(interest.required_gpus.begin(), interest.required_gpus.end(),
                                  gpu) != interest.required_gpus.end();
  const bool made_of_it = interest.device.has_value() && interest.device->gpu == gpu;
  return required || (!entry.on_host() && (entry.copies.empty() || made_of_it));
}

}  // namespace

std::shared_ptr<void> NodeCache::KeepCopy(const Entry& entry, device::Segment& segment) {
  if (shelf_ == nullptr || segment.handles() != device::Handles::kDescriptor) {
    return nullptr;
  }
  const absl::StatusOr<Fd> exported = segment.OpenForClient();
  std::shared_ptr<void> kept =
      exported.ok() ? entry.place.KeepCopy(segment.gpu(), *exported) : nullptr;
  // That a model in host memory isn't kept was said of the model.
  if (!exported.ok() || (kept == nullptr && !entry.on_host())) {
    const absl::Status why =
        exported.ok() ? Error(Reason::kInternal, "its model has no card") : exported.status();
    PublishOn(segment.gpu(), EventKind::kNotKept, entry.uri, entry.revision(), 0,
              Annotate(why, "its copy on this GPU"));
  }
  return kept;
}

void NodeCache::TakeBackLater(EntryId id, LeftCopy left) {
  auto promotion = std::make_shared<Promotion>();
  promotion->entry = id;
  promotion->gpu = left.gpu;
  promotion->left = std::move(left);
  StartPromotion(std::move(promotion));
}

void NodeCache::TakeBackDue() {
  absl::MutexLock lock(&mutex_);
  if (stopping_) {
    return;
  }
  for (const auto& [id, gpu] : catalog_.LeftDueBy(Uptime())) {
    TakeBackLater(id, *catalog_.TakeLeft(id, gpu));
  }
}

bool NodeCache::ComesBack(const Entry& entry, const GpuId& gpu) const {
  return entry.left.contains(gpu) || promotions_.TakesBack(entry.id, gpu);
}

void NodeCache::TakeBack(const Promotions::Shared& promotion) {
  device::ImportPlan plan;
  Uri uri;
  {
    absl::MutexLock lock(&mutex_);
    if (promotion->cancellation.cancelled()) {
      return;
    }
    const Entry& entry = *catalog_.Find(promotion->entry);
    uri = entry.uri;
    plan = {.reservation = std::move(promotion->left->room),
            .device_bytes = entry.model->index.device_bytes,
            .mark = MarkOf(entry.revision()),
            .exported = std::move(promotion->left->exported)};
  }
  // Both dropped, if nobody takes them, without the lock.
  absl::StatusOr<SharedCopy> copy = Import(uri, *promotion, plan);
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    if (!promotions_.Take(promotion)) {
      return;
    }
    TakenBack(*promotion, plan, copy, outcomes);
  }
  Tell(std::move(outcomes));
}

absl::StatusOr<SharedCopy> NodeCache::Import(const Uri& uri, Promotion& promotion,
                                             device::ImportPlan& plan) const {
  RETURN_IF_ERROR(CheckHandles(uri, device::Handles::kDescriptor));
  if (plan.reservation.bytes() == 0) {
    ASSIGN_OR_RETURN(plan.reservation, gpus_->ReserveHeld(promotion.gpu, plan.device_bytes));
  }
  ASSIGN_OR_RETURN(SharedCopy copy, gpus_->Import(plan, promotion.cancellation));
  if (copy->lost()) {
    // Here its room is back before it is tried again.
    copy.reset();
    return WorkerEnded(promotion.gpu);
  }
  return copy;
}

void NodeCache::TakenBack(Promotion& promotion, device::ImportPlan& plan,
                          absl::StatusOr<SharedCopy>& copy, Outcomes& outcomes) {
  const EntryId id = promotion.entry;
  const GpuId gpu = promotion.gpu;
  const Entry& entry = *catalog_.Find(id);
  const Uri uri = entry.uri;
  const absl::Status status = copy.ok() ? CheckArrival(uri, **copy) : copy.status();
  bool again = false;
  if (status.ok()) {
    PublishOn(gpu, EventKind::kReadopted, uri, entry.revision(), (*copy)->bytes());
    catalog_.AddCopy(id, *std::move(copy), std::move(promotion.left->kept));
    readoption_.readopted += !entry.on_host() && entry.copies.size() == 1 ? 1 : 0;
    // The GPU works: so may the others.
    for (const EntryId other : catalog_.EntriesLeftOn(gpu)) {
      TakeBackLater(other, *catalog_.TakeLeft(other, gpu));
    }
  } else {
    if (copy.ok()) {
      DropCopyLater(*std::move(copy));
    }
    again = TakeBackAgain(promotion, plan, status);
    if (!again) {
      promotion.left->kept.reset();
      promotion.left->exported = std::move(plan.exported);
      promotion.left->room = std::move(plan.reservation);
      // For which those may wait who want a new one.
      DropLeftLater(*std::move(promotion.left));
    }
  }
  const bool nowhere =
      !entry.on_host() && entry.copies.empty() && entry.left.empty() && entry.holds == 1;
  if (!status.ok() && !again) {
    NoteCopyNotReadopted(promotion, status, nowhere);
  }
  for (Interest& interest : std::exchange(promotion.interests, {})) {
    if (nowhere) {
      LoadAgain(uri, std::move(interest), outcomes);
    } else if (again && Needs(interest, entry, gpu)) {
      outcomes.push_back(
          {.interest = std::move(interest),
           .result = Annotate(status, absl::StrCat(uri.Redacted(), " on ", gpu.ToText()))});
    } else {
      if (again) {
        std::erase(interest.gpus, gpu);
      }
      Place(id, std::move(interest), outcomes);
    }
  }
  if (Leaver gone = catalog_.Unhold(id, /*used=*/false)) {
    DropLater(uri, std::move(gone));
  }
  TakeOutIfNowhere({id});
}

bool NodeCache::TakeBackAgain(Promotion& promotion, device::ImportPlan& plan,
                              const absl::Status& why) {
  LeftCopy& left = *promotion.left;
  if (!SaysNothing(why) || ++left.tries == LeftCopy::kMostTries) {
    return false;
  }
  const Entry& entry = *catalog_.Find(promotion.entry);
  if (left.tries == 1) {
    const std::string text = absl::StrCat(
        "its copy on this GPU can't be taken back yet, and is tried again: ", why.message());
    NoteNotReadopted({.place = {},
                      .uri = entry.uri,
                      .revision = entry.revision(),
                      .why = Error(ReasonOf(why), text, HintOf(why)),
                      .gpu = promotion.gpu},
                     /*is_model=*/false);
  }
  left.exported = std::move(plan.exported);
  left.room = std::move(plan.reservation);
  left.again_at =
      Uptime() + std::min(kFirstRetry * static_cast<double>(1 << (left.tries - 1)), kLastRetry);
  WakeTickerBefore(left.again_at);
  catalog_.AddLeft(promotion.entry, std::move(left));
  return true;
}

void NodeCache::NoteCopyNotReadopted(const Promotion& promotion, const absl::Status& why,
                                     bool nowhere) {
  const Entry& entry = *catalog_.Find(promotion.entry);
  const bool pinned = entry.card != nullptr && entry.card->pinned_by(Pinner::kOperator);
  const int tries = promotion.left->tries;
  const std::string tried = tries == 0 ? "" : absl::StrCat(", which was tried ", tries, " times");
  NoteNotReadopted({.place = {},
                    .uri = entry.uri,
                    .revision = entry.revision(),
                    .why = Annotate(why, absl::StrCat("its copy on this GPU", tried)),
                    .pinned = nowhere && pinned,
                    .gpu = promotion.gpu},
                   nowhere);
}

void NodeCache::LoadAgain(const Uri& uri, Interest interest, Outcomes& outcomes) {
  if (interest.may_load) {
    Join(uri, std::move(interest), outcomes);
    return;
  }
  outcomes.push_back(
      {.interest = std::move(interest),
       .result = Error(Reason::kModelNotResident, absl::StrCat(uri.Redacted(), " is not resident"),
                       "preload it")});
}

void NodeCache::DropLeftLater(LeftCopy left) {
  ++copies_dropping_;
  const GpuId gpu = left.gpu;
  // std::function wants what it holds to be copyable.
  dropping_.On(gpu).Run([this, shared = std::make_shared<LeftCopy>(std::move(left))]() mutable {
    shared.reset();
    NoteDropped(1);
  });
}

void NodeCache::TakeOutIfNowhere(absl::Span<const EntryId> ids) {
  for (const EntryId id : ids) {
    const Entry* entry = catalog_.Find(id);
    if (entry != nullptr && !entry->on_host() && entry->copies.empty() && entry->left.empty() &&
        entry->holds == 0) {
      const Uri uri = entry->uri;
      DropLater(uri, TakeOut(id));
    }
  }
}

}  // namespace weightd::cache
