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

namespace weightd::metrics {
namespace {

// Each serves one scraper at a time; one that reads slowly has one to itself for a while.
constexpr size_t kThreads = 4;

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
    parts_->server = std::make_unique<prometheus::Exposer>(address, kThreads);
    parts_->server->RegisterCollectable(parts_->everything);
  } catch (const std::exception& why) {
    return Error(
        Reason::kInvalidArgument,
        absl::StrCat("metrics can't be served at ", address, " (metrics.address): ", why.what()),
        "see whether another process listens there, and whether the address is one of "
        "this node's");
  }
  return absl::OkStatus();
}

}  // namespace weightd::metrics
