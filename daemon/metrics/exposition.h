#ifndef WEIGHTD_DAEMON_METRICS_EXPOSITION_H_
#define WEIGHTD_DAEMON_METRICS_EXPOSITION_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/metrics/counters.h"
#include "daemon/metrics/node.h"

namespace weightd::metrics {

// What was built, and since when it runs.
struct Build {
  std::string version;
  // Empty if unknown.
  std::string source_revision = {};
  absl::Time started;
};

// All metrics as Prometheus reads them. Thread-safe, but for Serve().
class Exposition {
 public:
  // `counters` and what `node` names outlive it.
  Exposition(const Counters* counters, Node node, Build build);
  // No scrape runs any more, and nobody listens.
  ~Exposition();
  Exposition(const Exposition&) = delete;

  // In Prometheus' text format, version 0.0.4.
  std::string Text() const;

  // Answers GET /metrics at `address` ("127.0.0.1:9464") from now on, for whoever can connect.
  // kInvalidArgument, naming the setting, if nobody can listen there.
  absl::Status Serve(const std::string& address);

 private:
  struct Parts;
  const std::unique_ptr<Parts> parts_;
};

}  // namespace weightd::metrics

#endif  // WEIGHTD_DAEMON_METRICS_EXPOSITION_H_
