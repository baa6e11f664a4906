#include "daemon/metrics/exposition.h"

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <exception>
#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/metrics/gauge_family.h"
#include "daemon/metrics/node_gauges.h"
#include "daemon/service/tcp_address.h"

namespace weightd::metrics {
namespace {

// Civetweb's settings. Each thread serves one connection at a time, whether or not anything comes
// over it: there are enough for some that say nothing, and those go soon. What waits for a thread
// waits in a short queue, further ones with the kernel.
std::vector<std::string> OptionsFor(const std::string& address) {
  return {"listening_ports",    address, "num_threads",       "16", "connection_queue", "16",
          "request_timeout_ms", "3000",  "linger_timeout_ms", "-1"};
}

// What keeps anybody from listening there, as far as can be told; the library doesn't say.
absl::Status WhyNot(const std::string& address) {
  ASSIGN_OR_RETURN(const service::TcpAddress parsed, service::ParseTcpAddress(address));
  return service::ListenOnTcp(parsed).status();
}

using Families = std::vector<prometheus::MetricFamily>;

void Append(Families part, Families& families) {
  families.insert(families.end(), std::move_iterator(part.begin()), std::move_iterator(part.end()));
}

class Everything final : public prometheus::Collectable {
 public:
  Everything(const Counters* counters, Node node, Build build)
      : counters_(*counters), gauges_(std::move(node)), build_(std::move(build)) {}

  Families Collect() const override {
    Families families;
    GaugeFamily build("weightd_build_info", "1; what was built says its labels.");
    build.Set({{"revision", build_.source_revision}, {"version", build_.version}}, 1);
    std::move(build).AppendTo(families);
    GaugeFamily started("process_start_time_seconds", "When the daemon started (Unix time).");
    started.Set({}, absl::ToDoubleSeconds(build_.started - absl::UnixEpoch()));
    std::move(started).AppendTo(families);
    Append(gauges_.Collect(), families);
    Append(counters_.all().Collect(), families);
    return families;
  }

 private:
  const Counters& counters_;
  const NodeGauges gauges_;
  const Build build_;
};

}  // namespace

struct Exposition::Parts {
  std::shared_ptr<Everything> everything;
  // Ends before what it shows.
  std::unique_ptr<prometheus::Exposer> server;
};

Exposition::Exposition(const Counters* counters, Node node, Build build)
    : parts_(std::make_unique<Parts>()) {
  parts_->everything = std::make_shared<Everything>(counters, std::move(node), std::move(build));
}

Exposition::~Exposition() = default;

std::string Exposition::Text() const {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, parts_->everything->Collect());
  return std::move(text).str();
}

absl::Status Exposition::Serve(const std::string& address) {
  // The library's constructor throws where it can't listen.
  try {
    parts_->server = std::make_unique<prometheus::Exposer>(OptionsFor(address));
    parts_->server->RegisterCollectable(parts_->everything);
  } catch (const std::exception&) {
    RETURN_IF_ERROR(Annotate(WhyNot(address), "metrics.address"));
    return Error(Reason::kInvalidArgument,
                 absl::StrCat("metrics.address: metrics can't be served at ", address),
                 "see whether another process listened there until now");
  }
  return absl::OkStatus();
}

}  // namespace weightd::metrics
