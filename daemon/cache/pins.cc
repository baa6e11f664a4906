// Pins of requests: compared with what is known of a resident model, else with its bytes. A pin
// that doesn't hold is the error of whoever gave it, and of nobody else who wants the model.

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "daemon/cache/node_cache.h"
#include "daemon/pipeline/digests.h"

namespace weightd::cache {

void NodeCache::Settle(EntryId id, Interest interest, Outcomes& outcomes) {
  const Entry& entry = *catalog_.Find(id);
  absl::StatusOr<bool> hold = true;
  if (!interest.pins.empty()) {
    hold = entry.model->digests->Hold(entry.model->index.files, interest.pins);
  }
  if (!hold.ok()) {
    outcomes.push_back(
        {.interest = std::move(interest), .result = Annotate(hold.status(), entry.uri.Redacted())});
  } else if (*hold) {
    Grant grant = GrantOn(id, interest);
    outcomes.push_back({.interest = std::move(interest), .result = std::move(grant)});
  } else {
    auto check = std::make_shared<PinCheck>();
    check->entry = id;
    check->uri = entry.uri;
    check->model = entry.model;
    check->pins = interest.pins;
    check->interest = std::move(interest);
    pin_checks_.push_back(check);
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
    const auto mine = std::find(pin_checks_.begin(), pin_checks_.end(), check);
    if (mine == pin_checks_.end()) {
      --checks_ending_;
      ++memory_returns_;
      memory_returned_.SignalAll();
      return;
    }
    pin_checks_.erase(mine);
    Interest interest = std::move(check->interest);
    if (!computed.ok()) {
      outcomes.push_back({.interest = std::move(interest), .result = computed});
    } else if (catalog_.Find(check->entry) != nullptr) {
      Settle(check->entry, std::move(interest), outcomes);
    } else if (interest.may_load) {
      // It left meanwhile, perhaps for a newer revision.
      Join(check->uri, std::move(interest));
    } else {
      outcomes.push_back(
          {.interest = std::move(interest),
           .result = Error(Reason::kModelNotResident, "the model was evicted while it was verified",
                           "preload it")});
    }
  }
  Tell(std::move(outcomes));
}

void NodeCache::StopPinChecks(absl::FunctionRef<bool(const PinCheck&)> stops,
                              const absl::Status& reason, Outcomes& outcomes) {
  const auto stopped =
      std::partition(pin_checks_.begin(), pin_checks_.end(),
                     [&](const std::shared_ptr<PinCheck>& check) { return !stops(*check); });
  for (auto check = stopped; check != pin_checks_.end(); ++check) {
    (*check)->cancellation.Cancel(reason);
    checks_ending_ += (*check)->running ? 1 : 0;
    outcomes.push_back({.interest = std::move((*check)->interest), .result = reason});
  }
  pin_checks_.erase(stopped, pin_checks_.end());
}

}  // namespace weightd::cache
