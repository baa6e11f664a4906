#ifndef WEIGHTD_DAEMON_METRICS_NODE_GAUGES_H_
#define WEIGHTD_DAEMON_METRICS_NODE_GAUGES_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <utility>
#include <vector>

#include "daemon/metrics/huge_pages.h"
#include "daemon/metrics/node.h"

namespace weightd::metrics {

// What there is on the node, looked at when somebody asks. Thread-safe.
class NodeGauges final : public prometheus::Collectable {
 public:
  explicit NodeGauges(Node node) : node_(std::move(node)) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const Node node_;
  mutable HugePages huge_pages_;
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_NODE_GAUGES_H_
