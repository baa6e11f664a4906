#ifndef WEIGHTD_DAEMON_METRICS_EVENT_COUNTERS_H_
#define WEIGHTD_DAEMON_METRICS_EVENT_COUNTERS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/gpu_id.h"
#include "daemon/cache/events.h"

namespace weightd::metrics {

// Loads, attaches, evictions and what happens on GPUs, from the cache's events.
class EventCounters {
 public:
  // `registry` outlives it.
  EventCounters(prometheus::Registry& registry, const std::vector<std::string>& listeners,
                const std::vector<GpuId>& gpus);

  void Happened(const cache::Event& event);

 private:
  using Counters = prometheus::Family<prometheus::Counter>;
  using Histograms = prometheus::Family<prometheus::Histogram>;

  // Of one listener, of models that were resident or that were not.
  struct Attaches {
    prometheus::Counter* count = nullptr;
    prometheus::Histogram* seconds = nullptr;
  };
  struct Listener {
    Attaches hits;
    Attaches misses;
  };

  Attaches AttachesOf(const std::string& listener, const char* result);
  void LoadFinished(const cache::Event& event);
  void LoadFailed(const cache::Event& event);
  void LeaseGranted(const cache::Event& event);

  Counters& loads_;
  prometheus::Counter& loaded_bytes_;
  prometheus::Histogram& load_seconds_;
  Counters& phase_seconds_;
  prometheus::Counter& verification_failures_;
  Counters& acquires_;
  Histograms& attach_seconds_;
  prometheus::Counter& evictions_;
  prometheus::Counter& evicted_bytes_;
  prometheus::Counter& superseded_;
  Counters& not_readopted_;
  prometheus::Counter& unknown_descriptors_;
  prometheus::Counter& pins_lost_;
  Counters& not_kept_;
  Counters& gpu_copies_;
  Counters& gpu_losses_;
  // Not changed after the constructor.
  absl::flat_hash_map<std::string, Listener> listeners_;
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_EVENT_COUNTERS_H_
