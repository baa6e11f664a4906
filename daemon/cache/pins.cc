// Pins of requests: compared with what is known of a resident model, else with its bytes. A pin
// that doesn't hold is the error of whoever gave it, and of nobody else who wants the model.

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"
#include "daemon/pipeline/digests.h"

namespace weightd::cache {
namespace {

absl::Status OnlyOnGpus(const Uri& uri) {
  return Error(
      Reason::kUnsupported,
      absl::StrCat(uri.Redacted(), " is only in GPUs' memory: no digest of its bytes can be made"),
      "pin it in the daemon's config: what a load verifies stands");
}

}  // namespace

void NodeCache::Settle(EntryId id, Interest interest, Outcomes& outcomes) {
  const Entry& entry = *catalog_.Find(id);
  const pipeline::ModelIndex& index = entry.model->index;
  // Whoever loaded it may have been allowed more.
  if (absl::Status may = pipeline::CheckFiles(index, interest.policy); !may.ok()) {
    outcomes.push_back({.interest = std::move(interest), .result = std::move(may)});
    return;
  }
  absl::StatusOr<bool> hold = true;
  if (!interest.pins.empty()) {
    hold = entry.model->digests->Hold(index.files, interest.pins);
  }
  if (!hold.ok()) {
    outcomes.push_back(
        {.interest = std::move(interest), .result = Annotate(hold.status(), entry.uri.Redacted())});
  } else if (*hold) {
    Place(id, std::move(interest), outcomes);
  } else if (!entry.on_host()) {
    outcomes.push_back({.interest = std::move(interest), .result = OnlyOnGpus(entry.uri)});
  } else {
    auto check = std::make_shared<PinCheck>();
    check->entry = id;
    check->uri = entry.uri;
    check->model = entry.model;
    check->pins = interest.pins;
    check->interest = std::move(interest);
    pin_checks_.Add(check);
    hashing_.Run([this, check = std::move(check)] { RunPinCheck(check); });
  }
}

void NodeCache::RunPinCheck(const std::shared_ptr<PinCheck>& check) {
  SharedModel model;
  {
    absl::MutexLock lock(&mutex_);
    if (check->cancellation.cancelled()) {
      return;
    }
    model = check->model.lock();
    check->running = true;
  }
  absl::Status computed;
  if (model != nullptr) {
    computed =
        model->digests->Compute(model->index, *model->weights, check->pins, check->cancellation);
  }
  model.reset();
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    std::optional<Interest> interest = pin_checks_.Take(check);
    if (catalog_.Find(check->entry) == nullptr) {
      ++memory_returns_;
      memory_returned_.SignalAll();
    }
    if (!interest.has_value()) {
      return;
    }
    if (!computed.ok()) {
      outcomes.push_back({.interest = *std::move(interest), .result = computed});
    } else if (catalog_.Find(check->entry) != nullptr) {
      Settle(check->entry, *std::move(interest), outcomes);
    } else if (interest->may_load) {
      // It left meanwhile, perhaps for a newer revision.
      Join(check->uri, *std::move(interest), outcomes);
    } else {
      outcomes.push_back(
          {.interest = *std::move(interest),
           .result = Error(Reason::kModelNotResident, "the model was evicted while it was verified",
                           "preload it")});
    }
  }
  Tell(std::move(outcomes));
}

}  // namespace weightd::cache
