#ifndef WEIGHTD_DAEMON_METRICS_CALL_COUNTERS_H_
#define WEIGHTD_DAEMON_METRICS_CALL_COUNTERS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/registry.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "daemon/service/call_record.h"

namespace weightd::metrics {

// Calls of clients and operators, by listener, method and reason; and those that were refused.
class CallCounters {
 public:
  // `registry` outlives it.
  CallCounters(prometheus::Registry& registry, const std::vector<std::string>& listeners);

  void Ended(const service::CallRecord& call);

 private:
  using Counters = prometheus::Family<prometheus::Counter>;

  Counters& calls_;
  Counters& refused_;
  // Calls that succeeded, by listener and method; not changed after the constructor.
  absl::flat_hash_map<std::pair<std::string, std::string>, prometheus::Counter*> succeeded_;
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_CALL_COUNTERS_H_
