#include "daemon/source/trail.h"

#include <utility>

namespace weightd::source {

void Trail::Add(std::optional<std::string> place) {
  absl::MutexLock lock(&mutex_);
  if (place.has_value() && (places_.size() < kMostPlaces || places_.contains(*place))) {
    places_.insert(*std::move(place));
  } else {
    lost_ = true;
  }
}

std::optional<std::vector<std::string>> Trail::Places() const {
  absl::MutexLock lock(&mutex_);
  if (lost_) {
    return std::nullopt;
  }
  return std::vector<std::string>(places_.begin(), places_.end());
}

}  // namespace weightd::source
