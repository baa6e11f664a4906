// What operators do to GPUs, and what is left when one is lost.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

constexpr absl::Duration kFirstRetry = absl::Seconds(1);
constexpr absl::Duration kLastRetry = absl::Minutes(1);

absl::Status NoGpu() {
  return Error(Reason::kDeviceUnavailable, "this node has no GPU that weightd can use",
               "see `weightctl doctor`");
}

absl::Status MayDrop(const Entry& entry, const GpuId& gpu) {
  const uint32_t leases = entry.copies.at(gpu).leases;
  if (leases > 0) {
    return Error(Reason::kModelInUse,
                 absl::StrCat(entry.uri.Redacted(), " is in use on ", gpu.ToText(), ": ", leases,
                              " lease(s)"),
                 "wait for its clients to end, or force it: their memory is free once they end");
  }
  return absl::OkStatus();
}

absl::Status Lost(const GpuId& gpu) {
  return Error(Reason::kDeviceUnavailable, absl::StrCat("what was on ", gpu.ToText(), " is lost"));
}

bool IsPlacedOn(const Placement& placement, const GpuId& gpu) {
  return std::find(placement.gpus.begin(), placement.gpus.end(), gpu) != placement.gpus.end();
}

// Not for want of room: what was evicted comes back when somebody asks for it.
bool MayPass(const absl::Status& error) {
  return ReasonOf(error) == Reason::kDeviceUnavailable || ReasonOf(error) == Reason::kInternal ||
         // It was on its way when its placement changed.
         ReasonOf(error) == Reason::kPlacementDiffers;
}

}  // namespace

absl::StatusOr<EvictResult> NodeCache::EvictFromGpu(const Uri& uri, const GpuId& gpu, bool force) {
  EvictResult result;
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    const Entry* entry = catalog_.Find(uri);
    if (entry == nullptr || entry->CopyOn(gpu) == nullptr) {
      return Error(Reason::kModelNotResident,
                   absl::StrCat(uri.Redacted(), " is not on ", gpu.ToText()), "preload it there");
    }
    if (!force) {
      RETURN_IF_ERROR(MayDrop(*entry, gpu));
      if (catalog_.FindRecord(uri)->pinned) {
        return Error(Reason::kModelPinned, absl::StrCat(uri.Redacted(), " is pinned"),
                     "unpin it, or evict it by force");
      }
    }
    const EntryId id = entry->id;
    const bool leased = entry->copies.at(gpu).leases > 0;
    (leased ? result.draining_bytes : result.freed_bytes) += entry->CopyOn(gpu)->bytes();
    StopPromotions(
        [id, &gpu](const Promotion& promotion) {
          return promotion.entry == id && promotion.gpu == gpu;
        },
        Error(Reason::kCancelled, absl::StrCat(uri.Redacted(), " is evicted from the GPU")),
        outcomes);
    // Else it was let go, and only a promotion held it.
    if (catalog_.Find(id) != nullptr) {
      DropCopyLater(TakeCopyOut(id, gpu));
    }
  }
  Tell(std::move(outcomes));
  return result;
}

absl::Status NodeCache::MayDrain(const GpuId& gpu) const {
  for (const EntryId id : catalog_.EntriesOn(gpu)) {
    RETURN_IF_ERROR(MayDrop(*catalog_.Find(id), gpu));
  }
  if (const uint64_t bytes = gpus_->UsageOf(gpu).draining; bytes > 0) {
    return Error(Reason::kModelInUse,
                 absl::StrCat(bytes, " bytes of evicted models on ", gpu.ToText(),
                              " are still mapped by clients"),
                 "wait for those clients to end, or force it");
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> NodeCache::DrainGpu(const GpuId& gpu, bool force) {
  if (gpus_ == nullptr) {
    return NoGpu();
  }
  uint64_t bytes = 0;
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    if (!force) {
      RETURN_IF_ERROR(MayDrain(gpu));
    }
    // From here on nothing arrives there.
    drained_gpus_.insert(gpu);
    const std::vector<EntryId> taken_back = promotions_.TakenBackOn(gpu);
    const std::vector<EntryId> left = catalog_.EntriesLeftOn(gpu);
    for (const std::vector<EntryId>& ids : {taken_back, left}) {
      for (const EntryId id : ids) {
        RememberIfLast(*catalog_.Find(id), gpu);
      }
    }
    StopPromotions([&](const Promotion& promotion) { return promotion.gpu == gpu; }, Drained(gpu),
                   outcomes);
    for (const EntryId id : left) {
      if (catalog_.Find(id) != nullptr) {
        DropLeftLater(*catalog_.TakeLeft(id, gpu));
      }
    }
    TakeOutIfNowhere(taken_back);
    TakeOutIfNowhere(left);
    EndLeases(leases_.RevokePrivateOn(gpu));
    placed_retries_[gpu].due = absl::InfiniteDuration();
    for (const EntryId id : catalog_.EntriesOn(gpu)) {
      RememberIfLast(*catalog_.Find(id), gpu);
      SharedCopy copy = TakeCopyOut(id, gpu);
      bytes += copy->bytes();
      DropCopyLater(std::move(copy));
    }
  }
  Tell(std::move(outcomes));
  RETURN_IF_ERROR(gpus_->Drain(gpu));
  if (shelf_ != nullptr) {
    shelf_->Settle();
  }
  return bytes;
}

absl::Status NodeCache::ResumeGpu(const GpuId& gpu) {
  if (gpus_ == nullptr) {
    return NoGpu();
  }
  RETURN_IF_ERROR(gpus_->Resume(gpu));
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    drained_gpus_.erase(gpu);
    KeepPlaced(gpu, outcomes);
  }
  Tell(std::move(outcomes));
  return absl::OkStatus();
}

std::vector<device::GpuStatus> NodeCache::Gpus() const {
  return gpus_ == nullptr ? std::vector<device::GpuStatus>() : gpus_->List();
}

absl::StatusOr<GpuId> NodeCache::FindGpu(absl::string_view name) const {
  return gpus_ == nullptr ? absl::StatusOr<GpuId>(NoGpu()) : gpus_->Find(name);
}

void NodeCache::RememberIfLast(const Entry& entry, const GpuId& gpu) {
  const bool last =
      !entry.on_host() && std::all_of(entry.copies.begin(), entry.copies.end(),
                                      [&gpu](const auto& copy) { return copy.first == gpu; });
  if (last && IsPlacedOn(PlacementOf(entry.uri), gpu)) {
    placed_retries_[gpu].reloads.emplace_back(entry.uri, entry.policy);
  }
}

void NodeCache::TakeLostOut(const GpuId& gpu) {
  for (const EntryId id : catalog_.EntriesOn(gpu)) {
    const Entry& entry = *catalog_.Find(id);
    if (!entry.CopyOn(gpu)->lost()) {
      continue;
    }
    RememberIfLast(entry, gpu);
    DropCopyLater(TakeCopyOut(id, gpu));
  }
}

void NodeCache::GpuLost(const GpuId& gpu, const absl::Status& why) {
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    PublishOn(gpu, EventKind::kGpuLost, Uri(), RevisionId(), 0, why);
    // Those made of a copy that is lost; the others hear of it from their worker.
    StopPromotions(
        [&](const Promotion& promotion) { return promotion.gpu == gpu && promotion.is_private; },
        why, outcomes);
    EndLeases(leases_.RevokePrivateOn(gpu));
    TakeLostOut(gpu);
    KeepPlacedLater(gpu, why);
  }
  Tell(std::move(outcomes));
}

void NodeCache::KeepPlaced(const GpuId& gpu, Outcomes& outcomes) {
  const auto interest = [&gpu] {
    Interest one;
    one.waiter = std::make_shared<Waiter>(nullptr, nullptr);
    one.persistent = true;
    one.gpus = {gpu};
    return one;
  };
  const std::shared_ptr<const Placements> placements = PlacementsNow();
  for (const auto& [key, placement] : *placements) {
    const auto record = catalog_.records().find(key);
    if (!IsPlacedOn(placement, gpu) || record == catalog_.records().end()) {
      continue;
    }
    if (const Entry* entry = catalog_.Find(record->second.current)) {
      Interest promised = interest();
      promised.policy = entry->policy;
      Place(entry->id, std::move(promised), outcomes);
    }
  }
  // Until they are there: what fails them tells nobody else.
  PlacedRetry& retry = placed_retries_[gpu];
  std::erase_if(retry.reloads, [this](const auto& reload) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return catalog_.Find(reload.first) != nullptr;
  });
  for (const auto& [uri, policy] : retry.reloads) {
    if (!flights_.contains(uri.ToString())) {
      Interest promised = interest();
      promised.policy = policy;
      Join(uri, std::move(promised), outcomes);
    }
  }
  if (!retry.reloads.empty()) {
    KeepPlacedLater(gpu, Lost(gpu));
  }
}

void NodeCache::SetPlacements(Placements placements) {
  std::set<GpuId> gpus;
  for (const auto& [key, placement] : placements) {
    gpus.insert(placement.gpus.begin(), placement.gpus.end());
  }
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    {
      auto replacing = std::make_shared<const Placements>(std::move(placements));
      absl::MutexLock placements_lock(&placements_mutex_);
      placements_ = std::move(replacing);
    }
    for (auto& [gpu, retry] : placed_retries_) {
      std::erase_if(retry.reloads, [this, &gpu](const auto& reload) {
        return !IsPlacedOn(PlacementOf(reload.first), gpu);
      });
    }
    TakeOutMisplaced(outcomes);
    TakeOutOtherHandles();
    for (const GpuId& gpu : gpus) {
      if (!stopping_ && !drained_gpus_.contains(gpu)) {
        KeepPlaced(gpu, outcomes);
      }
    }
  }
  Tell(std::move(outcomes));
}

void NodeCache::TakeOutMisplaced(Outcomes& outcomes) {
  for (const EntryId id : catalog_.EntriesOnlyOnGpus()) {
    const Entry* entry = catalog_.Find(id);
    if (entry == nullptr || entry->leases > 0 || !PlacementOf(entry->uri).host) {
      continue;
    }
    const absl::Status why = Error(Reason::kModelNotResident,
                                   absl::StrCat(entry->uri.Redacted(), " is placed elsewhere now"),
                                   "ask again: it is loaded anew");
    StopPromotions([id](const Promotion& promotion) { return promotion.entry == id; }, why,
                   outcomes);
    while ((entry = catalog_.Find(id)) != nullptr && !entry->copies.empty()) {
      DropCopyLater(TakeCopyOut(id, entry->copies.begin()->first));
    }
    while ((entry = catalog_.Find(id)) != nullptr && !entry->left.empty()) {
      DropLeftLater(*catalog_.TakeLeft(id, entry->left.begin()->first));
    }
    TakeOutIfNowhere({id});
  }
}

void NodeCache::KeepPlacedLater(const GpuId& gpu, const absl::Status& why) {
  const std::shared_ptr<const Placements> placements = PlacementsNow();
  const bool promised =
      std::any_of(placements->begin(), placements->end(),
                  [&gpu](const auto& placement) { return IsPlacedOn(placement.second, gpu); });
  if (stopping_ || drained_gpus_.contains(gpu) || !promised || !MayPass(why)) {
    return;
  }
  PlacedRetry& retry = placed_retries_[gpu];
  if (retry.due != absl::InfiniteDuration()) {
    return;  // it is on its way
  }
  retry.delay = std::clamp(retry.delay * 2, kFirstRetry, kLastRetry);
  retry.due = Uptime() + retry.delay;
  WakeTickerBefore(retry.due);
}

void NodeCache::RetryPlaced() {
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) {
      return;
    }
    std::vector<GpuId> due;
    for (auto& [gpu, retry] : placed_retries_) {
      if (retry.due <= Uptime()) {
        retry.due = absl::InfiniteDuration();
        due.push_back(gpu);
      }
    }
    for (const GpuId& gpu : due) {
      KeepPlaced(gpu, outcomes);
    }
  }
  Tell(std::move(outcomes));
}

}  // namespace weightd::cache
