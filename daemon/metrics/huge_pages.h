#ifndef WEIGHTD_DAEMON_METRICS_HUGE_PAGES_H_
#define WEIGHTD_DAEMON_METRICS_HUGE_PAGES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "daemon/cache/cache.h"
#include "daemon/cache/snapshots.h"

namespace weightd::metrics {

// How much of the resident models lies in huge pages. The kernel is asked about every page of a
// model, so each is asked for once: its pages stay what they are. Thread-safe.
class HugePages {
 public:
  // Of all bytes of `models` that are resident in host memory, 0 to 1; nothing if there are none.
  std::optional<double> FractionOf(const std::vector<cache::ModelSnapshot>& models,
                                   const cache::Cache& cache) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // By URI, revision, and when it was loaded: what is loaded again has other pages.
  using Fractions = absl::flat_hash_map<std::string, double>;

  absl::Mutex mutex_;
  Fractions known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_HUGE_PAGES_H_
