#include "daemon/metrics/counters.h"

#include <prometheus/registry.h>

#include "daemon/metrics/call_counters.h"
#include "daemon/metrics/event_counters.h"
#include "daemon/metrics/traffic_counters.h"

namespace weightd::metrics {

struct Counters::Parts {
  explicit Parts(const Known& known)
      : events(registry, known.listeners, known.gpus),
        calls(registry, known.listeners),
        traffic(registry) {}

  prometheus::Registry registry;
  EventCounters events;
  CallCounters calls;
  TrafficCounters traffic;
};

Counters::Counters(const Known& known) : parts_(std::make_unique<Parts>(known)) {}

Counters::~Counters() = default;

source::Traffic* Counters::TrafficOf(const std::string& store) { return parts_->traffic.Of(store); }

void Counters::Happened(const cache::Event& event) { parts_->events.Happened(event); }

void Counters::Ended(const service::CallRecord& call) { parts_->calls.Ended(call); }

const prometheus::Collectable& Counters::all() const { return parts_->registry; }

}  // namespace weightd::metrics
