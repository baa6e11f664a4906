// No further loads, before another daemon takes over: the switch is in Start (flights.cc), where
// all loads begin. What is resident is served as before.

#include <algorithm>
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

}  // namespace

absl::Status NodeDraining(const Uri& uri) {
  return Error(
      Reason::kShuttingDown,
      absl::StrCat(uri.Redacted(), " is not loaded any more: this node's daemon is draining"),
      "ask the next daemon, or have an operator undo it: weightctl resume");
}

absl::StatusOr<StoppedLoads> NodeCache::StopLoads(absl::Time deadline) {
  StoppedLoads loads;
  Outcomes outcomes;
  {
    absl::MutexLock lock(&mutex_);
    if (!std::exchange(loads_stopped_, true)) {
      Publish(EventKind::kNodeDraining, Uri(), RevisionId());
    }
    const size_t before = flights_.size();
    mutex_.AwaitWithDeadline(absl::Condition(this, &NodeCache::NoFlightMayGoOn), deadline);
    if (!loads_stopped_) {
      return Resumed();
    }
    loads.stopped = flights_.size();
    loads.ended = before - loads.stopped;
    while (!flights_.empty()) {
      const Uri uri = flights_.begin()->second.load->uri;
      Abort(uri, NodeDraining(uri), outcomes);
    }
  }
  Tell(std::move(outcomes));
  absl::MutexLock lock(&mutex_);
  // What they have put into the store is out of it then.
  mutex_.AwaitWithTimeout(absl::Condition(this, &NodeCache::NoLoadRuns), kStopPatience);
  return loads_stopped_ ? absl::StatusOr<StoppedLoads>(loads) : Resumed();
}

bool NodeCache::ResumeLoads() {
  absl::MutexLock lock(&mutex_);
  const bool stopped = std::exchange(loads_stopped_, false);
  if (stopped) {
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
  handed.confirmed = shelf_ != nullptr && shelf_->Flush(deadline);
  absl::MutexLock lock(&mutex_);
  for (const auto& [key, record] : catalog_.records()) {
    const Entry* const current = catalog_.Find(record.current);
    if (current == nullptr) {
      continue;
    }
    if (current->card != nullptr) {
      ++handed.kept_models;
      handed.kept_bytes += current->model->charged_bytes();
    } else {
      ++handed.lost_models;
    }
  }
  Publish(EventKind::kNodeDrained, Uri(), RevisionId(), handed.kept_bytes);
  return handed;
}

}  // namespace weightd::cache
