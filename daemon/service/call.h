#ifndef WEIGHTD_DAEMON_SERVICE_CALL_H_
#define WEIGHTD_DAEMON_SERVICE_CALL_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/service/call_record.h"

namespace weightd::service {

// What is called.
struct Asked {
  // A literal.
  absl::string_view method;
  // As the caller named it.
  absl::string_view model = {};
  // As CallRecord's; nothing secret.
  std::string details = {};
};

// A call from its beginning to its end. Reports itself once, when it dies: with the outcome it was
// given last, or as cancelled if nobody gave it one. Whoever answers owns it. Not thread-safe.
class Call {
 public:
  // `observer` outlives the call.
  Call(CallObserver* observer, Caller caller, Asked asked);
  ~Call();
  Call(Call&&) noexcept = default;
  Call& operator=(Call&&) = delete;

  void SetOutcome(absl::Status outcome);

  const std::string& request_id() const { return record_->request_id; }
  const Caller& caller() const { return record_->caller; }
  // Credentials and query redacted.
  const std::string& model() const { return record_->model; }

 private:
  CallObserver* observer_;
  absl::Duration begun_;
  // Null once moved from.
  std::unique_ptr<CallRecord> record_;
};

// Reports a connection that was refused before it could call anything.
void ReportRefusedConnection(CallObserver& observer, Caller caller, absl::Status why);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_CALL_H_
