#include "daemon/service/call.h"

#include <atomic>
#include <cstdint>
#include <random>
#include <utility>

#include "absl/strings/str_format.h"
#include "common/status.h"
#include "common/uptime.h"
#include "daemon/service/error_detail.h"

namespace weightd::service {
namespace {

// Counted from a random number on, so that the logs of several runs and nodes can be put together.
std::string NewRequestId() {
  static std::atomic<uint64_t> next{[] {
    std::random_device random;
    return (uint64_t{random()} << 32) | random();
  }()};
  return absl::StrFormat("%016x", next.fetch_add(1));
}

}  // namespace

Call::Call(CallObserver* observer, Caller caller, Asked asked)
    : observer_(observer), begun_(Uptime()), record_(std::make_unique<CallRecord>()) {
  record_->request_id = NewRequestId();
  record_->caller = std::move(caller);
  record_->method = asked.method;
  record_->model = asked.model.empty() ? std::string() : RedactedName(asked.model);
  record_->details = std::move(asked.details);
  record_->outcome = Error(Reason::kCancelled, "the call was cancelled");
}

Call::~Call() {
  if (record_ != nullptr) {
    record_->took = Uptime() - begun_;
    observer_->Ended(*record_);
  }
}

void Call::SetOutcome(absl::Status outcome) { record_->outcome = std::move(outcome); }

void ReportRefusedConnection(CallObserver& observer, Caller caller, absl::Status why) {
  Call(&observer, std::move(caller), {"Connect"}).SetOutcome(std::move(why));
}

}  // namespace weightd::service
