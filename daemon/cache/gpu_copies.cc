// Copies on GPUs: who wants them where, what leases are on, and how copies come and go.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

bool Has(const std::vector<GpuId>& gpus, const GpuId& gpu) {
  return std::find(gpus.begin(), gpus.end(), gpu) != gpus.end();
}

// What a client can be granted: not one whose worker is gone, of which we are yet to hear.
bool IsOn(const Entry& entry, const GpuId& gpu) {
  const SharedCopy copy = entry.CopyOn(gpu);
  return copy != nullptr && !copy->lost();
}

bool WantsPrivateCopy(const Interest& interest) {
  return interest.device.has_value() && interest.device->is_private &&
         interest.private_copy == nullptr;
}

absl::Status NotThere(const Uri& uri, const GpuId& gpu) {
  return Error(Reason::kModelNotResident,
               absl::StrCat(uri.Redacted(), " is not in the memory of ", gpu.ToText()),
               "preload it there, or acquire it through a listener that may load it");
}

}  // namespace

std::shared_ptr<const Placements> NodeCache::PlacementsNow() const {
  absl::MutexLock lock(&placements_mutex_);
  return placements_;
}

Placement NodeCache::PlacementOf(const Uri& uri) const {
  const std::shared_ptr<const Placements> placements = PlacementsNow();
  const auto found = placements->find(uri.ToString());
  return found == placements->end() ? Placement() : found->second;
}

absl::Status NodeCache::CheckPlacement(const Uri& uri, const Interest& interest) const {
  const Placement placement = PlacementOf(uri);
  const bool legacy = placement.handles == device::Handles::kLegacy;
  for (const GpuId& gpu : interest.required_gpus) {
    RETURN_IF_ERROR(FindGpu(gpu.ToText()).status());
  }
  if (!interest.holder.has_value()) {
    return absl::OkStatus();
  }
  if (!interest.device.has_value()) {
    return placement.host ? absl::OkStatus()
                          : Error(Reason::kPlacementDiffers,
                                  absl::StrCat(uri.Redacted(), " is kept only in GPUs' memory"),
                                  "attach it to a device");
  }
  RETURN_IF_ERROR(FindGpu(interest.device->gpu.ToText()).status());
  if (interest.device->legacy && !legacy) {
    return Error(Reason::kPlacementDiffers,
                 absl::StrCat(uri.Redacted(), " is not placed with legacy handles"),
                 "ask for a descriptor, or set `handles: legacy` in its placement");
  }
  if (legacy && !interest.device->legacy && !interest.device->is_private) {
    return Error(Reason::kPlacementDiffers,
                 absl::StrCat(uri.Redacted(), " is placed with legacy handles"),
                 "ask for a legacy handle, or for a private copy");
  }
  return absl::OkStatus();
}

absl::Status NodeCache::CheckThere(const Entry& entry, const Interest& interest) const {
  if (interest.device.has_value() && !interest.device->is_private) {
    const GpuId& gpu = interest.device->gpu;
    const bool there = IsOn(entry, gpu);
    if (there && !CheckHandles(entry.uri, entry.CopyOn(gpu)->handles()).ok()) {
      return Error(Reason::kPlacementDiffers,
                   absl::StrCat(entry.uri.Redacted(), " is leased on ", gpu.ToText(),
                                " with the handles that it was placed with before"),
                   "wait for its clients to end, or evict it from the GPU by force");
    }
  }
  if (entry.on_host() || interest.device.has_value() || !PlacementOf(entry.uri).host) {
    return absl::OkStatus();
  }
  return Error(Reason::kPlacementDiffers,
               absl::StrCat(entry.uri.Redacted(), " is only on GPUs, as its placement was before"),
               "evict it: it is loaded anew, or attach it to a device");
}

void NodeCache::Place(EntryId id, Interest interest, Outcomes& outcomes) {
  const Entry& entry = *catalog_.Find(id);
  absl::Status refusal = CheckThere(entry, interest);
  if (refusal.ok()) {
    refusal = CheckLeases(interest);
  }
  if (refusal.ok()) {
    refusal = CheckQuota(interest, entry);
  }
  if (!refusal.ok()) {
    outcomes.push_back({.interest = std::move(interest), .result = std::move(refusal)});
    return;
  }
  std::erase_if(interest.gpus, [&](const GpuId& gpu) { return IsOn(entry, gpu); });
  const bool privately = WantsPrivateCopy(interest);
  if (interest.gpus.empty() && !privately) {
    Grant grant = GrantOn(id, interest);
    outcomes.push_back({.interest = std::move(interest), .result = std::move(grant)});
    return;
  }
  const GpuId gpu = interest.gpus.empty() ? interest.device->gpu : interest.gpus.front();
  if (ComesBack(entry, gpu) && !(interest.gpus.empty() && entry.on_host())) {
    // As good as there.
    interest.gpus = interest.gpus.empty() ? std::vector<GpuId>{gpu} : interest.gpus;
    Promote(id, gpu, std::move(interest));
    return;
  }
  const bool source_here = entry.on_host() || (interest.gpus.empty() && IsOn(entry, gpu));
  if (!interest.may_load && !(privately && source_here)) {
    outcomes.push_back({.interest = std::move(interest), .result = NotThere(entry.uri, gpu)});
  } else if (source_here) {
    Promote(id, gpu, std::move(interest));
  } else {
    // Only on other GPUs: from the source, once more.
    if (!Has(interest.gpus, gpu)) {
      interest.gpus.push_back(gpu);
      interest.required_gpus.push_back(gpu);
    }
    Join(entry.uri, std::move(interest), outcomes);
  }
}

SharedCopy NodeCache::SegmentFor(const Entry& entry, const Interest& interest) const {
  if (!interest.device.has_value()) {
    return nullptr;
  }
  return interest.device->is_private ? interest.private_copy : entry.CopyOn(interest.device->gpu);
}

absl::StatusOr<pipeline::Destinations> NodeCache::DestinationsOf(Load& load) {
  const Placement placement = PlacementOf(load.uri);
  pipeline::Destinations to;
  to.host = placement.host;
  to.handles = placement.handles;
  if (gpus_ != nullptr) {
    absl::MutexLock lock(&mutex_);
    for (const GpuId& gpu : placement.gpus) {
      // One that doesn't work keeps no client waiting: it is tried again by itself.
      const auto retry = placed_retries_.find(gpu);
      if (!to.host || retry == placed_retries_.end() ||
          retry->second.delay == absl::ZeroDuration()) {
        to.gpus.push_back(gpu);
      }
    }
    const Flight* flight = FlightOf(load);
    if (flight == nullptr) {
      return load.cancellation.status();
    }
    to.mark = MarkFor(flight->revision, to.handles);
    for (const Interest& interest : flight->interests) {
      to.gpus.insert(to.gpus.end(), interest.gpus.begin(), interest.gpus.end());
      if (!to.host && interest.device.has_value()) {
        to.gpus.push_back(interest.device->gpu);
      }
    }
    std::sort(to.gpus.begin(), to.gpus.end());
    to.gpus.erase(std::unique(to.gpus.begin(), to.gpus.end()), to.gpus.end());
    const Entry* same = catalog_.Find(load.uri, flight->revision.hex());
    if (same != nullptr) {
      std::erase_if(to.gpus, [&](const GpuId& gpu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return IsOn(*same, gpu) || ComesBack(*same, gpu);
      });
    }
  }
  to.make_room_on = [this, &load, marks = to.mark.size()](const GpuId& gpu, uint64_t bytes) {
    return MakeRoomOn(gpu, bytes + marks, /*for_private=*/false, load.cancellation);
  };
  if (!to.host && to.gpus.empty()) {
    return Error(
        Reason::kDeviceUnavailable,
        absl::StrCat(load.uri.Redacted(), " is kept only on GPUs, and this node has none of them"),
        "see `weightctl doctor`, and the model's placement in the daemon's config");
  }
  return to;
}

bool NodeCache::IsWhereWanted(const Entry& entry, const Flight& flight) const {
  return std::all_of(
      flight.interests.begin(), flight.interests.end(), [&entry](const Interest& interest) {
        return std::all_of(interest.gpus.begin(), interest.gpus.end(),
                           [&entry](const GpuId& gpu) { return IsOn(entry, gpu); }) &&
               (!interest.device.has_value() || IsOn(entry, interest.device->gpu));
      });
}

absl::Status NodeCache::CheckArrival(const Uri& uri, const device::Segment& segment) const {
  if (drained_gpus_.contains(segment.gpu())) {
    return Drained(segment.gpu());
  }
  if (!segment.is_private()) {
    RETURN_IF_ERROR(CheckHandles(uri, segment.handles()));
  }
  return segment.lost() ? WorkerEnded(segment.gpu()) : absl::OkStatus();
}

void NodeCache::CopyArrived(EntryId id, SharedCopy segment) {
  const GpuId gpu = segment->gpu();
  if (SharedCopy lost = DetachCopy(id, gpu)) {
    DropCopyLater(std::move(lost));
  }
  const Entry& entry = *catalog_.Find(id);
  PublishOn(gpu, EventKind::kGpuCopied, entry.uri, entry.revision(), segment->bytes());
  std::shared_ptr<void> kept = KeepCopy(entry, *segment);
  catalog_.AddCopy(id, std::move(segment), std::move(kept));
  const auto retry = placed_retries_.find(gpu);
  if (retry != placed_retries_.end()) {
    retry->second.delay = absl::ZeroDuration();
  }
}

void NodeCache::SettleWithout(const Load& load, const absl::Status& error, Outcomes& outcomes) {
  Flight& flight = *FlightOf(load);
  const Entry* same = catalog_.Find(load.uri, flight.revision.hex());
  if (flight.revision.empty() || same == nullptr) {
    return;
  }
  const Placement placement = PlacementOf(load.uri);
  for (const GpuId& gpu : placement.gpus) {
    if (!IsOn(*same, gpu)) {
      KeepPlacedLater(gpu, error);
    }
  }
  for (Interest& interest :
       flight.Split([](const Interest& one) { return one.required_gpus.empty() && !one.device; })) {
    interest.gpus.clear();
    Settle(same->id, std::move(interest), outcomes);
  }
}

void NodeCache::NoteFailedCopies(const Entry& entry, absl::Span<const CopyFailure> failures,
                                 Flight& flight, Outcomes& outcomes) {
  for (const auto& [gpu, error] : failures) {
    KeepPlacedLater(gpu, error);
    if (entry.on_host()) {
      continue;  // those who want it there get one made of that
    }
    for (Interest& interest :
         flight.Split([&gpu](const Interest& one) { return Has(one.required_gpus, gpu); })) {
      outcomes.push_back({.interest = std::move(interest), .result = error});
    }
    for (Interest& interest : flight.interests) {
      std::erase(interest.gpus, gpu);
    }
  }
}

SharedCopy NodeCache::DetachCopy(EntryId id, const GpuId& gpu, const absl::Status& why) {
  const Entry& entry = *catalog_.Find(id);
  SharedCopy copy = entry.CopyOn(gpu);
  if (copy == nullptr) {
    return nullptr;
  }
  if (entry.copies.at(gpu).leases > 0) {
    copy->Drain();
  }
  PublishOn(gpu, EventKind::kGpuDropped, entry.uri, entry.revision(), copy->bytes(), why);
  EndLeases(leases_.Revoke(id, gpu));
  if (catalog_.Find(id) != nullptr) {  // else it was superseded, and these were its last leases
    catalog_.RemoveCopy(id, gpu);
  }
  return copy;
}

SharedCopy NodeCache::TakeCopyOut(EntryId id, const GpuId& gpu, const absl::Status& why) {
  SharedCopy copy = DetachCopy(id, gpu, why);
  TakeOutIfNowhere({id});
  return copy;
}

}  // namespace weightd::cache
