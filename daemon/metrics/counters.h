#ifndef WEIGHTD_DAEMON_METRICS_COUNTERS_H_
#define WEIGHTD_DAEMON_METRICS_COUNTERS_H_

#include <memory>
#include <string>
#include <vector>

#include "common/gpu_id.h"
#include "daemon/cache/events.h"
#include "daemon/service/call_record.h"
#include "daemon/source/traffic.h"

namespace prometheus {
class Collectable;
}

namespace weightd::metrics {

// What the daemon has done since it started, counted as it happens: told of it by the cache's
// events, by the sources and by the services, none of which know of metrics. Counting takes no lock
// that they take, and what is common only atomics. Thread-safe.
class Counters final : public service::CallObserver {
 public:
  // Values of labels that are known beforehand: their counters are there from the start, at 0, so
  // that the first thing that happens is seen as a change.
  struct Known {
    // Of clients.
    std::vector<std::string> listeners;
    std::vector<GpuId> gpus;
  };

  explicit Counters(const Known& known);
  ~Counters() override;

  // Counts what comes from one store, server or kind of file; lives as long as this. Not to be
  // called once traffic flows.
  source::Traffic* TrafficOf(const std::string& store);
  void Happened(const cache::Event& event);
  void Ended(const service::CallRecord& call) override;

  // For whoever shows them.
  const prometheus::Collectable& all() const;

 private:
  struct Parts;
  const std::unique_ptr<Parts> parts_;
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_COUNTERS_H_
