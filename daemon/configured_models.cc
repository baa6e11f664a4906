#include "daemon/configured_models.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/status.h"
#include "common/utf8.h"
#include "daemon/logging.h"
#include "daemon/service/proto_time.h"

namespace weightd {
namespace {

constexpr absl::Duration kLongestPause = absl::Minutes(5);
// Costs nothing; loads that are resumed are told of before.
constexpr absl::Duration kHeldUpPause = absl::Seconds(10);

}  // namespace

ConfiguredModels::ConfiguredModels(std::vector<Model> models, cache::Cache* cache)
    : cache_(cache), random_(std::random_device()()) {
  subscription_ = cache_->events().Subscribe([this](const cache::Event& event) { OnEvent(event); });
  thread_ = std::thread([this] { Run(); });
  Replace(std::move(models));
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
  if (event.kind == cache::EventKind::kNodeResumed) {
    absl::MutexLock lock(&mutex_);
    resumed_ = true;
    return;
  }
  // Not one of its copies, which follow.
  const bool readopted = event.kind == cache::EventKind::kReadopted && !event.gpu.has_value();
  if (event.kind != cache::EventKind::kLoadFinished && !readopted) {
    return;
  }
  const std::string uri = event.uri.ToString();
  absl::MutexLock lock(&mutex_);
  if (promises_.contains(uri)) {
    landed_[uri] |= readopted;
  }
}

void ConfiguredModels::Run() {
  while (true) {
    StartDue();
    std::optional<std::vector<Model>> replacing;
    std::vector<Finished> finished;
    std::map<std::string, bool> landed;
    bool resumed = false;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithDeadline(absl::Condition(this, &ConfiguredModels::HasNews), NextTry());
      if (stopping_) {
        break;
      }
      replacing.swap(replacing_);
      finished.swap(finished_);
      landed.swap(landed_);
      resumed = std::exchange(resumed_, false);
    }
    for (const Finished& one : finished) {
      Finish(one);
    }
    for (const auto& [uri, readopted] : landed) {
      Landed(uri, readopted);
    }
    if (resumed) {
      TryHeldUp();
    }
    if (replacing.has_value()) {
      Apply(*std::move(replacing));
    }
  }
  // A wait that dies may wait for a callback, which takes the lock: they die without it.
  Promises last;
  absl::MutexLock lock(&mutex_);
  last.swap(promises_);
  models_.clear();
}

cache::PreloadRequest ConfiguredModels::RequestOf(const Promise& promise) {
  return {.uri = promise.uri,
          .policy = {true, true, true},
          .pin = promise.pin,
          .pinner = cache::Pinner::kConfig,
          .may_load = promise.preload,
          .goes_on = false,
          .pins = promise.pins};
}

void ConfiguredModels::StartDue() {
  struct Due {
    std::string uri;
    uint64_t attempt;
    cache::PreloadRequest request;
  };
  std::vector<Due> due;
  {
    absl::MutexLock lock(&mutex_);
    for (auto& [uri, promise] : promises_) {
      if (promise.attempt == 0 && promise.next_try <= absl::Now()) {
        promise.next_try = absl::InfiniteFuture();
        promise.attempt = ++attempts_;
        due.push_back({uri, promise.attempt, RequestOf(promise)});
      }
    }
  }
  for (Due& one : due) {
    cache::PreloadCallbacks callbacks;
    callbacks.progress = [](const cache::ProgressSnapshot&) {};
    callbacks.done = [this, uri = one.uri,
                      attempt = one.attempt](const absl::StatusOr<cache::ModelSnapshot>& loaded) {
      absl::MutexLock lock(&mutex_);
      finished_.push_back({uri, attempt, loaded.status()});
    };
    std::unique_ptr<cache::Wait> wait =
        cache_->Preload(std::move(one.request), std::move(callbacks));
    absl::MutexLock lock(&mutex_);
    promises_.at(one.uri).wait = std::move(wait);
  }
}

void ConfiguredModels::Finish(const Finished& finished) {
  std::unique_ptr<cache::Wait> over;
  Uri uri;
  bool has_pins = false;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = promises_.find(finished.uri);
    if (found == promises_.end() || found->second.attempt != finished.attempt) {
      return;
    }
    Promise& promise = found->second;
    uri = promise.uri;
    has_pins = !promise.pins.empty();
    over = std::move(promise.wait);
    promise.attempt = 0;
    if (!finished.result.ok()) {
      NoteFailure(promise, finished.result);
    } else {
      promise.pause = kFirstPause;
      promise.failures = 0;
      promise.last_error.clear();
    }
  }
  const Reason reason = ReasonOf(finished.result);
  const bool differs = reason == Reason::kVerificationFailed;
  // Of what is only on GPUs no digest can be made once it is there.
  if ((differs || reason == Reason::kUnsupported) && cache_->Resident(uri).ok()) {
    // Loaded before the config said what it has to be: the next load is under that.
    if (!differs && has_pins) {
      // Nobody is granted it any more, so our pin keeps it for nobody.
      cache_->PinForConfig(uri, false);
    }
    if (!cache_->Evict(uri, /*force=*/differs).ok()) {
      // Once nobody leases it.
      cache_->LetGo(uri);
    }
  }
}

void ConfiguredModels::NoteFailure(Promise& promise, const absl::Status& error) {
  if (ReasonOf(error) == Reason::kCancelled) {
    // An operator evicted it while it was loading: what was meant to be gone stays gone.
    Log(LogLevel::kInfo, "preload.evicted", {{"model", promise.name}});
    return;
  }
  if (!promise.preload && ReasonOf(error) == Reason::kModelNotResident) {
    // It left before it was looked at.
    return;
  }
  promise.last_error = std::string(error.message());
  if (promise.preload && ReasonOf(error) == Reason::kShuttingDown) {
    promise.held_up = true;
    promise.next_try = absl::Now() + kHeldUpPause;
    return;
  }
  ++promise.failures;
  if (!promise.preload) {
    Log(LogLevel::kWarning, "model.differs",
        {{"model", promise.name}, {"error", promise.last_error}});
    return;
  }
  // Not at the same time on all nodes that failed at the same time.
  const absl::Duration pause =
      promise.pause * std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  promise.next_try = absl::Now() + pause;
  promise.pause = std::min(2 * promise.pause, kLongestPause);
  Log(LogLevel::kWarning, "preload.failed",
      {{"model", promise.name},
       {"error", promise.last_error},
       {"failures", uint64_t{promise.failures}},
       {"retry_seconds",
        static_cast<uint64_t>(absl::ToInt64Seconds(absl::Ceil(pause, absl::Seconds(1))))}});
}

void ConfiguredModels::Landed(const std::string& uri, bool readopted) {
  Uri pinned;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = promises_.find(uri);
    if (found == promises_.end()) {
      return;
    }
    Promise& promise = found->second;
    // What had still to be kept of the promise, and somebody else's load brings; or what an
    // earlier daemon loaded, perhaps under another config.
    const bool to_be_met = readopted ? promise.preload || !promise.pins.empty()
                                     : promise.preload && promise.failures > 0;
    if (to_be_met && promise.attempt == 0) {
      // To be looked at, pinned and placed as promised.
      promise.next_try = absl::InfinitePast();
    }
    if (!promise.pin) {
      return;
    }
    pinned = promise.uri;
  }
  cache_->PinForConfig(pinned, true);
}

void ConfiguredModels::TryHeldUp() {
  absl::MutexLock lock(&mutex_);
  for (auto& [uri, promise] : promises_) {
    if (std::exchange(promise.held_up, false) && promise.attempt == 0) {
      promise.next_try = absl::InfinitePast();
    }
  }
}

absl::Time ConfiguredModels::NextTry() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [uri, promise] : promises_) {
    next = std::min(next, promise.next_try);
  }
  return next;
}

void ConfiguredModels::FillState(const Promise& promise, bool resident,
                                 v1::ConfiguredModel& model) {
  if (!promise.preload) {
    model.set_state(v1::ConfiguredModel::ON_DEMAND);
  } else if (promise.attempt != 0 || promise.next_try == absl::InfinitePast()) {
    model.set_state(v1::ConfiguredModel::LOADING);
  } else if (promise.next_try != absl::InfiniteFuture()) {
    model.set_state(v1::ConfiguredModel::RETRYING);
    *model.mutable_next_try_at() = service::ToProto(promise.next_try);
  } else {
    model.set_state(resident ? v1::ConfiguredModel::READY : v1::ConfiguredModel::EVICTED);
  }
  model.set_failures(promise.failures);
  model.set_last_error(ToUtf8(promise.last_error));
}

std::vector<v1::ConfiguredModel> ConfiguredModels::Snapshot() const {
  std::vector<v1::ConfiguredModel> snapshot;
  std::vector<Uri> uris;
  {
    absl::MutexLock lock(&mutex_);
    uris.reserve(models_.size());
    for (const Model& model : models_) {
      uris.push_back(model.uri);
    }
  }
  std::map<std::string, bool> resident;
  for (const Uri& uri : uris) {
    resident[uri.ToString()] = cache_->Resident(uri).ok();
  }
  absl::MutexLock lock(&mutex_);
  for (const Model& model : models_) {
    v1::ConfiguredModel& added = snapshot.emplace_back();
    added.set_name(model.name);
    added.set_uri(model.uri.Redacted());
    added.set_preload(model.preload);
    added.set_pin(model.pin);
    const std::string uri = model.uri.ToString();
    FillState(promises_.at(uri), resident[uri], added);
  }
  return snapshot;
}

}  // namespace weightd
