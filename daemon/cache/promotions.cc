// Promotions: copies on GPUs that are made of what is resident, without asking the source.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"
#include "daemon/pipeline/device_layout.h"

namespace weightd::cache {
namespace {

// Whom descriptors of host segments go to meanwhile.
constexpr char kHolder[] = "GPU worker";

}  // namespace

void NodeCache::Promote(EntryId id, const GpuId& gpu, Interest interest) {
  const bool is_private = interest.gpus.empty();
  if (const Promotions::Shared running = promotions_.Find(id, gpu);
      running != nullptr && !is_private) {
    running->interests.push_back(std::move(interest));
    return;
  }
  auto promotion = std::make_shared<Promotion>();
  promotion->entry = id;
  promotion->gpu = gpu;
  promotion->is_private = is_private;
  promotion->interests.push_back(std::move(interest));
  if (!is_private) {
    promotion->left = catalog_.TakeLeft(id, gpu);
  }
  StartPromotion(std::move(promotion));
}

void NodeCache::StartPromotion(Promotions::Shared promotion) {
  catalog_.Hold(promotion->entry);
  promotions_.Add(promotion);
  const GpuId gpu = promotion->gpu;
  if (promotion->left.has_value()) {
    taking_back_.On(gpu).Run([this, promotion = std::move(promotion)] { TakeBack(promotion); });
  } else {
    promoting_.On(gpu).Run([this, promotion = std::move(promotion)] { RunPromotion(promotion); });
  }
}

void NodeCache::RunPromotion(const Promotions::Shared& promotion) {
  SharedCopy copy;
  absl::Status status;
  if (absl::StatusOr<SharedCopy> made = MakeCopy(*promotion); made.ok()) {
    copy = *std::move(made);
  } else {
    status = std::move(made).status();
  }
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    if (!promotions_.Take(promotion)) {
      return;
    }
    const EntryId id = promotion->entry;
    const Uri uri = catalog_.Find(id)->uri;
    if (copy != nullptr) {
      status = CheckArrival(uri, *copy);
    }
    if (copy != nullptr && !status.ok()) {
      DropCopyLater(std::exchange(copy, nullptr));
    }
    if (!status.ok()) {
      KeepPlacedLater(promotion->gpu, status);
    } else if (!promotion->is_private) {
      CopyArrived(id, std::exchange(copy, nullptr));
    }
    for (Interest& interest : promotion->interests) {
      const bool needed = promotion->is_private ||
                          std::find(interest.required_gpus.begin(), interest.required_gpus.end(),
                                    promotion->gpu) != interest.required_gpus.end();
      if (!status.ok() && needed) {
        outcomes.push_back({.interest = std::move(interest),
                            .result = Annotate(status, absl::StrCat(uri.Redacted(), " on ",
                                                                    promotion->gpu.ToText()))});
        continue;
      }
      if (promotion->is_private) {
        interest.private_copy = std::exchange(copy, nullptr);
      }
      std::erase(interest.gpus, promotion->gpu);
      Place(id, std::move(interest), outcomes);
    }
    if (Leaver gone = catalog_.Unhold(id)) {
      DropLater(uri, std::move(gone));
    }
  }
  Tell(std::move(outcomes));
}

absl::StatusOr<SharedCopy> NodeCache::MakeCopy(Promotion& promotion) {
  SharedModel model;
  SharedCopy copied;
  device::Handles handles = device::Handles::kDescriptor;
  std::vector<std::shared_ptr<Waiter>> waiters;
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(promotion.cancellation.status());
    const Entry& entry = *catalog_.Find(promotion.entry);
    model = entry.model;
    copied = promotion.is_private ? entry.CopyOn(promotion.gpu) : nullptr;
    handles = PlacementOf(entry.uri).handles;
    for (const Interest& interest : promotion.interests) {
      waiters.push_back(interest.waiter);
    }
  }
  const uint64_t bytes = model->index.device_bytes;
  const std::string mark = promotion.is_private ? "" : MarkFor(model->index.revision, handles);
  for (const std::shared_ptr<Waiter>& waiter : waiters) {
    waiter->TellProgress(
        {.phase = pipeline::Phase::kCopying, .bytes_done = 0, .bytes_total = bytes});
  }
  if (copied == nullptr && model->weights == nullptr) {
    return Error(Reason::kDeviceUnavailable,
                 "the copy on the GPU that it was to be made of is lost", "try again");
  }
  ASSIGN_OR_RETURN(
      device::Reservation reservation,
      MakeRoomOn(promotion.gpu, bytes + mark.size(), promotion.is_private, promotion.cancellation));
  Fd source;
  if (copied == nullptr) {
    ASSIGN_OR_RETURN(source, model->weights->OpenForClient(kHolder));
  }
  if (promotion.is_private) {
    return gpus_->CopyPrivately({.reservation = std::move(reservation),
                                 .device_bytes = bytes,
                                 .copied = std::move(copied),
                                 .runs = pipeline::CopyRunsOf(model->index),
                                 .source = std::move(source),
                                 .source_bytes = model->index.segment_bytes},
                                promotion.cancellation);
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<device::Upload> upload,
                   gpus_->BeginUpload({.reservation = std::move(reservation),
                                       .device_bytes = bytes,
                                       .handles = handles,
                                       .mark = mark,
                                       .runs = pipeline::CopyRunsOf(model->index),
                                       .source = std::move(source),
                                       .source_bytes = model->index.segment_bytes}));
  upload->Copy({0, model->index.segment_bytes}, 0);
  return upload->Finish(promotion.cancellation);
}

void NodeCache::StopPromotions(absl::FunctionRef<bool(const Promotion&)> stops,
                               const absl::Status& reason, Outcomes& outcomes) {
  for (const Promotions::Shared& promotion : promotions_.Stop(stops, reason)) {
    for (Interest& interest : promotion->interests) {
      outcomes.push_back({.interest = std::move(interest), .result = reason});
    }
    promotion->interests.clear();
    const Uri uri = catalog_.Find(promotion->entry)->uri;
    // Taking back is no use.
    if (Leaver gone = catalog_.Unhold(promotion->entry, !promotion->left.has_value())) {
      DropLater(uri, std::move(gone));
    }
  }
}

void NodeCache::LeavePromotions(absl::FunctionRef<bool(const Interest&)> leaves,
                                const absl::Status& reason, Outcomes& outcomes) {
  for (Interest& interest : promotions_.Split(leaves)) {
    outcomes.push_back({.interest = std::move(interest), .result = reason});
  }
  StopPromotions(
      [](const Promotion& promotion) {
        return promotion.interests.empty() && !promotion.left.has_value();
      },
      reason, outcomes);
}

}  // namespace weightd::cache
