#ifndef WEIGHTD_DAEMON_METRICS_TRAFFIC_COUNTERS_H_
#define WEIGHTD_DAEMON_METRICS_TRAFFIC_COUNTERS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/registry.h>

#include <map>
#include <memory>
#include <string>

#include "daemon/source/traffic.h"

namespace weightd::metrics {

// Bytes, requests and retries, by store.
class TrafficCounters {
 public:
  using Counters = prometheus::Family<prometheus::Counter>;

  // `registry` outlives it.
  explicit TrafficCounters(prometheus::Registry& registry);

  source::Traffic* Of(const std::string& store);

 private:
  Counters& bytes_;
  Counters& requests_;
  Counters& retries_;
  std::map<std::string, std::unique_ptr<source::Traffic>> stores_;
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_TRAFFIC_COUNTERS_H_
