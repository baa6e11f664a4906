// No further loads, before another daemon takes over: the switch is in Start (flights.cc), where
// all loads begin. What is resident is served as before.

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

// For sources and threads that take a moment to notice that their load was stopped.
constexpr absl::Duration kStopPatience = absl::Seconds(2);

absl::Status Resumed() {
  return Error(Reason::kCancelled, "loads were resumed before the last of them had ended",
               "drain the node again");
}

absl::Status Overtaken() {
  return Error(Reason::kCancelled, "loads still run, for a later drain gives them more time",
               "wait for that one, or drain the node again");
}

// A load that was stopped knows it, and so does one that was given up.
template <typename Loads>
StoppedLoads Count(const Loads& loads) {
  StoppedLoads counted;
  for (const auto& load : loads) {
    ++(load->cancellation.cancelled() ? counted.stopped : counted.ended);
  }
  return counted;
}

}  // namespace

absl::Status NodeCache::LoadsStoppedFor(const Uri& uri) const {
  const std::string what = absl::StrCat(uri.Redacted(), " is not loaded any more: this ");
  return stopped_for_good_
             ? Error(Reason::kShuttingDown, absl::StrCat(what, "daemon is ending"),
                     "ask the next daemon")
             : Error(Reason::kShuttingDown, absl::StrCat(what, "node's daemon is draining"),
                     "ask the next daemon, or have an operator undo it: weightctl resume");
}

absl::StatusOr<StoppedLoads> NodeCache::StopLoads(absl::Time deadline) {
  Loads loads;
  Outcomes outcomes;
  uint64_t resumes = 0;
  {
    absl::MutexLock lock(&mutex_);
    loads = BeginDrain();
    const uint64_t drain = drains_;
    resumes = resumes_;
    const auto is_over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return flights_.empty() || resumes_ != resumes;
    };
    mutex_.AwaitWithDeadline(absl::Condition(&is_over), deadline);
    if (resumes_ != resumes) {
      return Resumed();
    }
    if (drains_ != drain && !flights_.empty()) {
      return Overtaken();
    }
    AbortLoads(outcomes);
  }
  Tell(std::move(outcomes));
  absl::MutexLock lock(&mutex_);
  return AwaitAborted(resumes) ? absl::StatusOr<StoppedLoads>(Count(loads)) : Resumed();
}

StoppedLoads NodeCache::StopLoadsForGood() {
  Loads loads;
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    loads = BeginDrain();
    stopped_for_good_ = true;
    AbortLoads(outcomes);
  }
  Tell(std::move(outcomes));
  absl::MutexLock lock(&mutex_);
  AwaitAborted(resumes_);
  return Count(loads);
}

NodeCache::Loads NodeCache::BeginDrain() {
  ++drains_;
  if (!std::exchange(loads_stopped_, true)) {
    Publish(EventKind::kNodeDraining, Uri(), RevisionId());
  }
  Loads loads;
  for (const auto& [uri, flight] : flights_) {
    loads.push_back(flight.load);
  }
  return loads;
}

void NodeCache::AbortLoads(Outcomes& outcomes) {
  while (!flights_.empty()) {
    const Uri uri = flights_.begin()->second.load->uri;
    Abort(uri, LoadsStoppedFor(uri), outcomes);
  }
}

bool NodeCache::AwaitAborted(uint64_t resumes) {
  // What they have put into the store is out of it then.
  const auto is_over = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return running_.empty() || resumes_ != resumes;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&is_over), kStopPatience);
  return resumes_ == resumes;
}

absl::StatusOr<bool> NodeCache::ResumeLoads() {
  absl::MutexLock lock(&mutex_);
  if (stopped_for_good_) {
    return Error(Reason::kShuttingDown, "this daemon is ending, and loads nothing any more",
                 "the next one loads without being told to");
  }
  const bool stopped = std::exchange(loads_stopped_, false);
  if (stopped) {
    ++resumes_;
    Publish(EventKind::kNodeResumed, Uri(), RevisionId());
  }
  return stopped;
}

bool NodeCache::LoadsStopped() const {
  absl::MutexLock lock(&mutex_);
  return loads_stopped_;
}

HandedOver NodeCache::HandOver(absl::Time deadline) {
  HandedOver handed;
  fd_store::StoredNames stored;
  if (shelf_ != nullptr) {
    handed.confirmed = shelf_->Flush(deadline);
    stored = shelf_->Confirmed();
  }
  absl::MutexLock lock(&mutex_);
  for (const auto& [key, record] : catalog_.records()) {
    const Entry* const current = catalog_.Find(record.current);
    if (current == nullptr) {
      continue;
    }
    if (current->place.IsWholeIn(stored, *current->model)) {
      ++handed.kept_models;
      handed.kept_bytes += current->model->charged_bytes();
    } else {
      ++handed.lost_models;
    }
  }
  events_.Publish({.time = absl::Now(),
                   .kind = EventKind::kNodeDrained,
                   .uri = {},
                   .revision = {},
                   .lease = {},
                   .bytes = handed.kept_bytes,
                   .error = absl::OkStatus(),
                   .handed = handed});
  return handed;
}

}  // namespace weightd::cache
