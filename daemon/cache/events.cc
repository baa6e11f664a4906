#include "daemon/cache/events.h"

#include <utility>

namespace weightd::cache {

EventLog::Subscription::~Subscription() {
  absl::MutexLock lock(&log_->mutex_);
  log_->sinks_.erase(id_);
}

std::unique_ptr<EventLog::Subscription> EventLog::Subscribe(
    std::function<void(const Event&)> sink) {
  absl::MutexLock lock(&mutex_);
  const uint64_t id = next_id_++;
  sinks_.emplace(id, std::move(sink));
  return std::make_unique<Subscription>(this, id);
}

void EventLog::Publish(const Event& event) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, sink] : sinks_) {
    sink(event);
  }
}

}  // namespace weightd::cache
