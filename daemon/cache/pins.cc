// Pins: compared with what is known of a resident model, else with its bytes. A request's pin that
// doesn't hold is the error of whoever gave it, and of nobody else who wants the model; one of the
// config is everybody's. A load verifies those of the config itself, but the model may be older
// than they are: an earlier daemon's, say, that the store gave only after this one had started.

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"
#include "daemon/pipeline/digests.h"

namespace weightd::cache {
namespace {

absl::Status OnlyOnGpus(const Uri& uri, absl::string_view hint) {
  return Error(
      Reason::kUnsupported,
      absl::StrCat(uri.Redacted(), " is only in GPUs' memory: no digest of its bytes can be made"),
      hint);
}

// As Digests::Hold.
absl::StatusOr<bool> Hold(const Entry& entry, const Pins& pins) {
  return pins.empty() ? true : entry.model->digests->Hold(entry.model->index.files, pins);
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
  Pins of_config = options_.pins_of(entry.uri);
  const absl::StatusOr<bool> config_holds = Hold(entry, of_config);
  const absl::StatusOr<bool> request_holds = Hold(entry, interest.pins);
  const absl::StatusOr<bool>& hold =
      config_holds.ok() && *config_holds ? request_holds : config_holds;
  if (!hold.ok()) {
    outcomes.push_back(
        {.interest = std::move(interest), .result = Annotate(hold.status(), entry.uri.Redacted())});
  } else if (*hold) {
    Place(id, std::move(interest), outcomes);
  } else if (!entry.on_host()) {
    const char* const hint = *config_holds
                                 ? "pin it in the daemon's config: what a load verifies stands"
                                 : "evict it: the next load verifies what the config says";
    outcomes.push_back({.interest = std::move(interest), .result = OnlyOnGpus(entry.uri, hint)});
  } else {
    auto check = std::make_shared<PinCheck>();
    check->entry = id;
    check->uri = entry.uri;
    check->model = entry.model;
    check->pins = interest.pins;
    check->pins.merge(of_config);
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
