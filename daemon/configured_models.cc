#include "daemon/configured_models.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/logging.h"

namespace weightd {
namespace {

constexpr absl::Duration kFirstPause = absl::Seconds(1);
constexpr absl::Duration kLongestPause = absl::Minutes(5);

}  // namespace

ConfiguredModels::ConfiguredModels(std::vector<Model> models, cache::Cache* cache)
    : pinned_([&] {
        std::vector<Model> pinned;
        std::copy_if(models.begin(), models.end(), std::back_inserter(pinned),
                     [](const Model& model) { return model.pin; });
        return pinned;
      }()),
      cache_(cache) {
  for (Model& model : models) {
    if (model.preload) {
      preloads_.push_back({std::move(model), absl::InfinitePast(), kFirstPause, nullptr});
    }
  }
  subscription_ = cache_->events().Subscribe([this](const cache::Event& event) { OnEvent(event); });
  thread_ = std::thread([this] { Run(); });
}

ConfiguredModels::~ConfiguredModels() {
  subscription_.reset();
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void ConfiguredModels::OnEvent(const cache::Event& event) {
  const bool wanted = event.kind == cache::EventKind::kLoadFinished &&
                      std::any_of(pinned_.begin(), pinned_.end(),
                                  [&](const Model& model) { return model.uri == event.uri; });
  if (wanted) {
    absl::MutexLock lock(&mutex_);
    to_pin_.push_back(event.uri);
  }
}

void ConfiguredModels::Run() {
  while (true) {
    StartDue();
    std::vector<Finished> finished;
    std::vector<Uri> to_pin;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithDeadline(absl::Condition(this, &ConfiguredModels::HasNews), NextTry());
      if (stopping_) {
        break;
      }
      finished.swap(finished_);
      to_pin.swap(to_pin_);
    }
    for (const Finished& one : finished) {
      FinishPreload(one.index, one.result);
    }
    for (const Uri& uri : to_pin) {
      if (const absl::Status pinned = cache_->Pin(uri, true).status(); !pinned.ok()) {
        Log(LogLevel::kWarning, "pin.failed",
            {{"model", uri.Redacted()}, {"error", pinned.message()}});
      }
    }
  }
  preloads_.clear();
}

void ConfiguredModels::StartDue() {
  for (size_t i = 0; i < preloads_.size(); ++i) {
    if (preloads_[i].wait == nullptr && preloads_[i].next_try <= absl::Now()) {
      preloads_[i].next_try = absl::InfiniteFuture();
      StartPreload(i);
    }
  }
}

void ConfiguredModels::StartPreload(size_t index) {
  Preload& preload = preloads_[index];
  cache::PreloadCallbacks callbacks;
  callbacks.progress = [](const cache::ProgressSnapshot&) {};
  callbacks.done = [this, index](const absl::StatusOr<cache::ModelSnapshot>& loaded) {
    absl::MutexLock lock(&mutex_);
    finished_.push_back({index, loaded.status()});
  };
  preload.wait = cache_->Preload(
      {.uri = preload.model.uri, .policy = {true, true, true}, .pin = preload.model.pin},
      std::move(callbacks));
}

void ConfiguredModels::FinishPreload(size_t index, const absl::Status& result) {
  Preload& preload = preloads_[index];
  preload.wait.reset();
  if (result.ok()) {
    return;
  }
  if (ReasonOf(result) == Reason::kCancelled) {
    // An operator evicted it while it was loading: what was meant to be gone stays gone.
    Log(LogLevel::kInfo, "preload.evicted", {{"model", preload.model.name}});
    return;
  }
  preload.next_try = absl::Now() + preload.pause;
  Log(LogLevel::kWarning, "preload.failed",
      {{"model", preload.model.name},
       {"error", result.message()},
       {"retry_seconds", static_cast<uint64_t>(absl::ToInt64Seconds(preload.pause))}});
  preload.pause = std::min(2 * preload.pause, kLongestPause);
}

absl::Time ConfiguredModels::NextTry() const {
  absl::Time next = absl::InfiniteFuture();
  for (const Preload& preload : preloads_) {
    next = std::min(next, preload.next_try);
  }
  return next;
}

}  // namespace weightd
