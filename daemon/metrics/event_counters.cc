#include "daemon/metrics/event_counters.h"

#include <array>

#include "absl/time/time.h"
#include "common/status.h"
#include "daemon/metrics/labels.h"
#include "daemon/pipeline/progress.h"

namespace weightd::metrics {
namespace {

constexpr char kHit[] = "hit";
constexpr char kMiss[] = "miss";

// How loads end.
constexpr std::array kLoadEnds = {Reason::kUnspecified,        Reason::kInvalidUri,
                                  Reason::kUnsupported,        Reason::kModelNotFound,
                                  Reason::kSourceDenied,       Reason::kSourceUnavailable,
                                  Reason::kSourceChanged,      Reason::kSourceProtocol,
                                  Reason::kAddressRefused,     Reason::kMalformedModel,
                                  Reason::kVerificationFailed, Reason::kKeyMissing,
                                  Reason::kKeyRefused,         Reason::kBudgetExceeded,
                                  Reason::kHostMemoryShort,    Reason::kDeviceUnavailable,
                                  Reason::kDeviceMemoryShort,  Reason::kCancelled,
                                  Reason::kShuttingDown,       Reason::kInternal};

// Why models of an earlier daemon are not served by this one, or its own not by the next.
constexpr std::array kNotReadoptedFor = {Reason::kVerificationFailed, Reason::kUnsupported,
                                         Reason::kBudgetExceeded,     Reason::kHostMemoryShort,
                                         Reason::kTooManyRequests,    Reason::kDaemonUnreachable,
                                         Reason::kDeviceUnavailable,  Reason::kDeviceMemoryShort,
                                         Reason::kPlacementDiffers,   Reason::kInternal};
constexpr std::array kNotKeptFor = {Reason::kBudgetExceeded, Reason::kHostMemoryShort,
                                    Reason::kTooManyRequests, Reason::kDeviceUnavailable,
                                    Reason::kInternal};

using Bounds = prometheus::Histogram::BucketBoundaries;

// In seconds: from a small file on tmpfs to a large model from far away.
Bounds LoadBounds() { return {0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800}; }

// From what the daemon itself takes to a wait for a load.
Bounds AttachBounds() {
  return {0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300};
}

prometheus::Family<prometheus::Counter>& Counter(prometheus::Registry& registry, const char* name,
                                                 const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

prometheus::Family<prometheus::Histogram>& Histogram(prometheus::Registry& registry,
                                                     const char* name, const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

}  // namespace

EventCounters::EventCounters(prometheus::Registry& registry,
                             const std::vector<std::string>& listeners,
                             const std::vector<GpuId>& gpus)
    : loads_(Counter(registry, "weightd_loads_total", "Loads that ended, by reason.")),
      loaded_bytes_(
          Counter(registry, "weightd_loaded_bytes_total", "Bytes of host memory that loads filled.")
              .Add({})),
      load_seconds_(Histogram(registry, "weightd_load_seconds",
                              "How long loads took that finished, waits for their turn included.")
                        .Add({}, LoadBounds())),
      phase_seconds_(Counter(registry, "weightd_load_phase_seconds_total",
                             "Time of loads that finished, by what they did then.")),
      verification_failures_(
          Counter(registry, "weightd_verification_failures_total",
                  "Loads that failed because bytes are not what a checksum or pin says.")
              .Add({})),
      acquires_(Counter(registry, "weightd_acquires_total",
                        "Leases granted, by whether the model was resident when it was asked for "
                        "(hit) or had to be loaded or copied to a GPU first (miss).")),
      attach_seconds_(Histogram(registry, "weightd_attach_seconds",
                                "How long clients waited for their lease, loads included.")),
      evictions_(Counter(registry, "weightd_evictions_total",
                         "Models that left host memory for others or by an operator.")
                     .Add({})),
      evicted_bytes_(Counter(registry, "weightd_evicted_bytes_total",
                             "Bytes of host memory of models that left it so.")
                         .Add({})),
      superseded_(
          Counter(registry, "weightd_superseded_total", "Revisions whose place a newer one took.")
              .Add({})),
      not_readopted_(Counter(registry, "weightd_not_readopted_total",
                             "What an earlier daemon left and this one could not use, by reason.")),
      unknown_descriptors_(Counter(registry, "weightd_unknown_descriptors_total",
                                   "Descriptors in the store that are of no model.")
                               .Add({})),
      pins_lost_(Counter(registry, "weightd_pins_lost_total",
                         "Operators' pins of models that an earlier daemon left and this one could "
                         "not use.")
                     .Add({})),
      not_kept_(Counter(
          registry, "weightd_not_kept_total",
          "Models, or copies on GPUs, that the next daemon will have to make again, by reason.")),
      gpu_copies_(Counter(registry, "weightd_gpu_copies_total", "Shared copies made on a GPU.")),
      gpu_losses_(Counter(registry, "weightd_gpu_losses_total",
                          "How often a GPU's worker ended by itself, and its copies with it.")) {
  for (const Reason reason : kLoadEnds) {
    loads_.Add({{"reason", LabelOf(reason)}});
  }
  for (const Reason reason : kNotReadoptedFor) {
    not_readopted_.Add({{"reason", LabelOf(reason)}});
  }
  for (const Reason reason : kNotKeptFor) {
    not_kept_.Add({{"reason", LabelOf(reason)}});
  }
  for (const pipeline::Phase phase : pipeline::kTimedPhases) {
    phase_seconds_.Add({{"phase", LabelOf(phase)}});
  }
  for (const std::string& listener : listeners) {
    listeners_[listener] = {.hits = AttachesOf(listener, kHit),
                            .misses = AttachesOf(listener, kMiss)};
  }
  for (const GpuId& gpu : gpus) {
    gpu_copies_.Add({{"gpu", gpu.ToText()}});
    gpu_losses_.Add({{"gpu", gpu.ToText()}});
  }
}

EventCounters::Attaches EventCounters::AttachesOf(const std::string& listener, const char* result) {
  const prometheus::Labels labels = {{"listener", listener}, {"result", result}};
  return {.count = &acquires_.Add(labels), .seconds = &attach_seconds_.Add(labels, AttachBounds())};
}

void EventCounters::Happened(const cache::Event& event) {
  switch (event.kind) {
    case cache::EventKind::kLoadFinished:
      LoadFinished(event);
      break;
    case cache::EventKind::kLoadFailed:
      LoadFailed(event);
      break;
    case cache::EventKind::kLeaseGranted:
      LeaseGranted(event);
      break;
    case cache::EventKind::kEvicted:
      evictions_.Increment();
      evicted_bytes_.Increment(static_cast<double>(event.bytes));
      break;
    case cache::EventKind::kSuperseded:
      superseded_.Increment();
      break;
    case cache::EventKind::kGpuCopied:
      gpu_copies_.Add({{"gpu", event.gpu->ToText()}}).Increment();
      break;
    case cache::EventKind::kGpuLost:
      gpu_losses_.Add({{"gpu", event.gpu->ToText()}}).Increment();
      break;
    case cache::EventKind::kNotReadopted:
      if (event.unknown_descriptors > 0) {
        unknown_descriptors_.Increment(static_cast<double>(event.unknown_descriptors));
        break;
      }
      not_readopted_.Add({{"reason", LabelOf(ReasonOf(event.error))}}).Increment();
      pins_lost_.Increment(event.pin_lost ? 1 : 0);
      break;
    case cache::EventKind::kNotKept:
      not_kept_.Add({{"reason", LabelOf(ReasonOf(event.error))}}).Increment();
      break;
    // What is there shows what these change.
    case cache::EventKind::kLoadStarted:
    case cache::EventKind::kLeaseEnded:
    case cache::EventKind::kDrained:
    case cache::EventKind::kPinned:
    case cache::EventKind::kUnpinned:
    case cache::EventKind::kStale:
    case cache::EventKind::kGpuDropped:
    case cache::EventKind::kReadopted:
    case cache::EventKind::kNodeDraining:
    case cache::EventKind::kNodeDrained:
    case cache::EventKind::kNodeResumed:
      break;
  }
}

void EventCounters::LoadFinished(const cache::Event& event) {
  loads_.Add({{"reason", LabelOf(Reason::kUnspecified)}}).Increment();
  loaded_bytes_.Increment(static_cast<double>(event.bytes));
  load_seconds_.Observe(absl::ToDoubleSeconds(event.took.value_or(absl::ZeroDuration())));
  for (const auto& [phase, time] : event.phases) {
    phase_seconds_.Add({{"phase", LabelOf(phase)}}).Increment(absl::ToDoubleSeconds(time));
  }
}

void EventCounters::LoadFailed(const cache::Event& event) {
  const Reason reason = ReasonOf(event.error);
  loads_.Add({{"reason", LabelOf(reason)}}).Increment();
  if (reason == Reason::kVerificationFailed) {
    verification_failures_.Increment();
  }
}

void EventCounters::LeaseGranted(const cache::Event& event) {
  const auto listener = listeners_.find(event.listener);
  if (listener == listeners_.end()) {
    return;  // of no listener of the config
  }
  const Attaches& attaches = event.was_resident ? listener->second.hits : listener->second.misses;
  attaches.count->Increment();
  attaches.seconds->Observe(absl::ToDoubleSeconds(event.took.value_or(absl::ZeroDuration())));
}

}  // namespace weightd::metrics
