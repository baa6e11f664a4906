#ifndef WEIGHTD_DAEMON_SOURCE_TRAIL_H_
#define WEIGHTD_DAEMON_SOURCE_TRAIL_H_

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weightd::source {

// Where redirects led from one version of an object, whatever was asked of it. Thread-safe.
class Trail {
 public:
  // More places are not remembered: then nobody can say where all of the bytes came from.
  static constexpr size_t kMostPlaces = 64;

  // A Uri::Redacted; none: a place that no Uri can name.
  void Add(std::optional<std::string> place) ABSL_LOCKS_EXCLUDED(mutex_);

  // Each once; none if not all are known.
  std::optional<std::vector<std::string>> Places() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  std::set<std::string> places_ ABSL_GUARDED_BY(mutex_);
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_TRAIL_H_
