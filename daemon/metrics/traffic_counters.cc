#include "daemon/metrics/traffic_counters.h"

#include <array>

#include "common/status.h"
#include "daemon/metrics/labels.h"

namespace weightd::metrics {
namespace {

using source::RetryReason;

constexpr std::array kRetryReasons = {RetryReason::kThrottled,  RetryReason::kServerError,
                                      RetryReason::kStalled,    RetryReason::kCutShort,
                                      RetryReason::kConnection, RetryReason::kCorrected};

// How requests fail.
constexpr std::array kFailures = {Reason::kModelNotFound,     Reason::kSourceDenied,
                                  Reason::kSourceUnavailable, Reason::kSourceChanged,
                                  Reason::kSourceProtocol,    Reason::kAddressRefused};

class StoreCounters final : public source::Traffic {
 public:
  StoreCounters(const std::string& store, TrafficCounters::Counters& bytes,
                TrafficCounters::Counters& requests, TrafficCounters::Counters& retries)
      : store_(store),
        requests_(requests),
        bytes_(bytes.Add({{"store", store}})),
        succeeded_(requests.Add({{"store", store}, {"reason", LabelOf(Reason::kUnspecified)}})) {
    for (const RetryReason reason : kRetryReasons) {
      retries_[static_cast<size_t>(reason)] =
          &retries.Add({{"store", store}, {"reason", LabelOf(reason)}});
    }
    for (const Reason reason : kFailures) {
      requests.Add({{"store", store}, {"reason", LabelOf(reason)}});
    }
  }

  void Received(uint64_t bytes) override { bytes_.Increment(static_cast<double>(bytes)); }

  void TriesAgain(RetryReason reason) override {
    retries_[static_cast<size_t>(reason)]->Increment();
  }

  void Ended(const absl::Status& outcome) override {
    if (outcome.ok()) {
      succeeded_.Increment();
    } else {
      requests_.Add({{"store", store_}, {"reason", LabelOf(ReasonOf(outcome))}}).Increment();
    }
  }

 private:
  const std::string store_;
  TrafficCounters::Counters& requests_;
  prometheus::Counter& bytes_;
  prometheus::Counter& succeeded_;
  std::array<prometheus::Counter*, kRetryReasons.size()> retries_ = {};
};

}  // namespace

TrafficCounters::TrafficCounters(prometheus::Registry& registry)
    : bytes_(prometheus::BuildCounter()
                 .Name("weightd_source_bytes_total")
                 .Help("Bytes that came from a store, those of answers in vain included.")
                 .Register(registry)),
      requests_(prometheus::BuildCounter()
                    .Name("weightd_source_requests_total")
                    .Help("Requests to a store that ended, with all their tries, by reason.")
                    .Register(registry)),
      retries_(prometheus::BuildCounter()
                   .Name("weightd_source_retries_total")
                   .Help("Requests to a store that were made once more, by why the try before "
                         "failed.")
                   .Register(registry)) {}

source::Traffic* TrafficCounters::Of(const std::string& store) {
  std::unique_ptr<source::Traffic>& counters = stores_[store];
  if (counters == nullptr) {
    counters = std::make_unique<StoreCounters>(store, bytes_, requests_, retries_);
  }
  return counters.get();
}

}  // namespace weightd::metrics
