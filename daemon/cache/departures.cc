#include "daemon/cache/departures.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/clock.h"

namespace weightd::cache {
namespace {

// A segment's label is its model's URI, "@", the first digits of its revision's name, and what else
// tells it apart after a space. Other URIs may contain anything, so the whole of it must match.
bool IsOf(absl::string_view label, absl::string_view redacted_uri, const RevisionId& revision) {
  const size_t at = label.rfind('@');
  if (at == absl::string_view::npos || label.substr(0, at) != redacted_uri) {
    return false;
  }
  absl::string_view digits = label.substr(at + 1);
  digits = digits.substr(0, digits.find(' '));
  return !digits.empty() && absl::StartsWith(revision.hex(), digits);
}

bool Drains(const std::vector<host::DrainingSegment>& draining, const Uri& uri,
            const RevisionId& revision) {
  const std::string redacted = uri.Redacted();
  return std::any_of(draining.begin(), draining.end(), [&](const host::DrainingSegment& segment) {
    return IsOf(segment.label, redacted, revision);
  });
}

}  // namespace

Departures::Departures(host::HostTier* tier, EventLog* events, Shelf* shelf)
    : tier_(tier), events_(events), shelf_(shelf), thread_("weightd-free", 1) {}

Departure Departures::Announce(const Uri& uri, SharedModel model) {
  absl::MutexLock lock(&mutex_);
  ++freeing_;
  leaving_.push_back({.uri = uri,
                      .revision = model->index.revision,
                      .bytes = model->charged_bytes(),
                      .weights = model->weights,
                      .encoded_index = model->encoded_index,
                      .small_files = model->small_files});
  return {.uri = uri, .model = std::move(model)};
}

void Departures::Drop(std::vector<Departure> departures) {
  for (Departure& departure : departures) {
    departure.model.reset();
  }
  Freed(departures.size());
  Collect();
}

void Departures::Freed(size_t models) {
  if (shelf_ != nullptr) {
    shelf_->Settle();
  }
  absl::MutexLock lock(&mutex_);
  freeing_ -= models;
  freed_ += models;
}

void Departures::DropLater(Departure departure) {
  thread_.Run([this, departure = std::move(departure)]() mutable {
    std::vector<Departure> departures;
    departures.push_back(std::move(departure));
    Drop(std::move(departures));
  });
}

void Departures::FreeLater(std::vector<std::shared_ptr<host::HostSegment>> segments) {
  {
    absl::MutexLock lock(&mutex_);
    ++freeing_;
  }
  thread_.Run([this, segments = std::move(segments)]() mutable {
    segments.clear();
    Freed(1);
  });
}

void Departures::CollectLater() {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(look_queued_, true)) {
      return;
    }
  }
  thread_.Run([this] {
    {
      absl::MutexLock lock(&mutex_);
      look_queued_ = false;
    }
    Collect();
  });
}

void Departures::Collect() {
  tier_->CollectDrained();
  absl::MutexLock lock(&mutex_);
  // A segment that is being dropped is neither here nor draining for a moment.
  if (leaving_.empty() || freeing_ > 0) {
    return;
  }
  const std::vector<host::DrainingSegment> draining = tier_->draining();
  std::erase_if(leaving_, [&](const Leaving& gone) {
    if (!gone.weights.expired() || !gone.encoded_index.expired() || !gone.small_files.expired() ||
        Drains(draining, gone.uri, gone.revision)) {
      return false;
    }
    events_->Publish({.time = absl::Now(),
                      .kind = EventKind::kDrained,
                      .uri = gone.uri,
                      .revision = gone.revision,
                      .lease = {},
                      .bytes = gone.bytes,
                      .error = {}});
    return true;
  });
}

bool Departures::Waiting() const {
  absl::MutexLock lock(&mutex_);
  return !leaving_.empty() || freeing_ > 0;
}

uint64_t Departures::freed() const {
  absl::MutexLock lock(&mutex_);
  return freed_;
}

bool Departures::Freeing() const {
  absl::MutexLock lock(&mutex_);
  return freeing_ > 0;
}

}  // namespace weightd::cache
