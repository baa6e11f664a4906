#ifndef WEIGHTD_DAEMON_METRICS_GAUGE_FAMILY_H_
#define WEIGHTD_DAEMON_METRICS_GAUGE_FAMILY_H_

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>
#include <prometheus/metric_type.h>

#include <string>
#include <utility>
#include <vector>

namespace weightd::metrics {

using GaugeLabels = std::vector<prometheus::ClientMetric::Label>;

// A gauge for each set of labels, as prometheus-cpp shows them.
class GaugeFamily {
 public:
  GaugeFamily(const char* name, const char* help) {
    family_.name = name;
    family_.help = help;
    family_.type = prometheus::MetricType::Gauge;
  }

  template <typename Number>
  void Set(GaugeLabels labels, Number value) {
    prometheus::ClientMetric& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    metric.gauge.value = static_cast<double>(value);
  }

  // Nothing for a family without values.
  void AppendTo(std::vector<prometheus::MetricFamily>& families) && {
    if (!family_.metric.empty()) {
      families.push_back(std::move(family_));
    }
  }

 private:
  prometheus::MetricFamily family_;
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_GAUGE_FAMILY_H_
