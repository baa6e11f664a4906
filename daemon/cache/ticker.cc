// What time brings: progress to tell, leases that nobody claimed, segments that have drained.

#include <algorithm>
#include <utility>

#include "daemon/cache/node_cache.h"

namespace weightd::cache {
namespace {

constexpr absl::Duration kBetweenProgress = absl::Milliseconds(100);
constexpr absl::Duration kBetweenLooksAtDraining = absl::Milliseconds(200);
// absl waits by the wall clock: setting that back must not put off what is due.
constexpr absl::Duration kLongestSleep = absl::Seconds(10);

}  // namespace

void NodeCache::Tick() {
  absl::Duration next_progress = -absl::InfiniteDuration();
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      next_tick_ = NextTick(next_progress);
      while (!stopping_ && Uptime() < next_tick_) {
        tick_now_.WaitWithTimeout(&mutex_, std::min(next_tick_ - Uptime(), kLongestSleep));
      }
      if (stopping_) {
        return;
      }
    }
    if (Uptime() >= next_progress) {
      TellProgress();
      next_progress = Uptime() + kBetweenProgress;
    }
    ExpireUnclaimed();
    RetryPlaced();
    TakeBackDue();
    departures_.CollectLater();
  }
}

absl::Duration NodeCache::NextTick(absl::Duration next_progress) const {
  absl::Duration next =
      std::min(leases_.OldestUnclaimed() + options_.unclaimed_lease, catalog_.NextLeftDue());
  if (!flights_.empty()) {
    next = std::min(next, next_progress);
  }
  for (const auto& [gpu, retry] : placed_retries_) {
    next = std::min(next, retry.due);
  }
  if (departures_.Waiting() || tier_->usage().draining > 0) {
    next = std::min(next, Uptime() + kBetweenLooksAtDraining);
  }
  return next;
}

void NodeCache::WakeTickerBefore(absl::Duration uptime) {
  if (uptime < next_tick_) {
    next_tick_ = uptime;
    tick_now_.Signal();
  }
}

Departure NodeCache::Leaves(const Uri& uri, Leaver leaver) {
  WakeTickerBefore(Uptime() + kBetweenLooksAtDraining);
  for (SharedCopy& copy : leaver.copies) {
    DropCopyLater(std::move(copy));
  }
  for (LeftCopy& left : leaver.left) {
    DropLeftLater(std::move(left));
  }
  return departures_.Announce(uri, std::move(leaver.model));
}

void NodeCache::DropLater(const Uri& uri, Leaver leaver) {
  if (leaver.let_go) {
    Publish(EventKind::kEvicted, uri, leaver.model->index.revision, leaver.model->charged_bytes());
  }
  departures_.DropLater(Leaves(uri, std::move(leaver)));
}

void NodeCache::TellProgress() {
  std::vector<std::pair<std::shared_ptr<Waiter>, ProgressSnapshot>> news;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [key, flight] : flights_) {
      const ProgressSnapshot progress = Describe(flight).progress;
      for (const Interest& interest : flight.interests) {
        news.emplace_back(interest.waiter,
                          flight.Carries(interest) ? progress : ProgressSnapshot());
      }
    }
  }
  for (const auto& [waiter, progress] : news) {
    waiter->TellProgress(progress);
  }
}

void NodeCache::ExpireUnclaimed() {
  absl::MutexLock lock(&mutex_);
  LeasesEnded(leases_.ExpireUnclaimed(Uptime() - options_.unclaimed_lease));
}

}  // namespace weightd::cache
