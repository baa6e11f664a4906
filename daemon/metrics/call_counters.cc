#include "daemon/metrics/call_counters.h"

#include <algorithm>
#include <array>

#include "common/status.h"
#include "daemon/metrics/labels.h"

namespace weightd::metrics {
namespace {

// What clients call again and again; others are counted from their first call on.
constexpr std::array<const char*, 5> kMethods = {"Acquire", "Claim", "Release", "GetModel",
                                                 "ListModels"};
// Why somebody is turned away, whatever the model is.
constexpr std::array kRefusals = {Reason::kNotAllowed, Reason::kSessionInvalid,
                                  Reason::kTooManyRequests, Reason::kQuotaExceeded};

}  // namespace

CallCounters::CallCounters(prometheus::Registry& registry,
                           const std::vector<std::string>& listeners)
    : calls_(prometheus::BuildCounter()
                 .Name("weightd_calls_total")
                 .Help("Calls that ended, by listener (admin: of operators), method and reason.")
                 .Register(registry)),
      refused_(prometheus::BuildCounter()
                   .Name("weightd_refused_total")
                   .Help("Calls and connections that were turned away for who they came from or "
                         "how many they were.")
                   .Register(registry)) {
  for (const std::string& listener : listeners) {
    for (const char* const method : kMethods) {
      succeeded_[{listener, method}] = &calls_.Add(
          {{"listener", listener}, {"method", method}, {"reason", LabelOf(Reason::kUnspecified)}});
    }
    for (const Reason refusal : kRefusals) {
      refused_.Add({{"listener", listener}, {"reason", LabelOf(refusal)}});
    }
  }
}

void CallCounters::Ended(const service::CallRecord& call) {
  const std::string& listener = call.caller.listener;
  const Reason reason = ReasonOf(call.outcome);
  const std::string method(call.method);
  const auto known = succeeded_.find(std::pair(listener, method));
  if (call.outcome.ok() && known != succeeded_.end()) {
    known->second->Increment();
    return;
  }
  calls_.Add({{"listener", listener}, {"method", method}, {"reason", LabelOf(reason)}}).Increment();
  if (std::find(kRefusals.begin(), kRefusals.end(), reason) != kRefusals.end()) {
    refused_.Add({{"listener", listener}, {"reason", LabelOf(reason)}}).Increment();
  }
}

}  // namespace weightd::metrics
