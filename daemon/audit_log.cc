#include "daemon/audit_log.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "common/status.h"
#include "common/utf8.h"
#include "weightd/v1/error.pb.h"

namespace weightd {
namespace {

constexpr LineMeter::Rate kAttachesOfUser = {1000, 50};
constexpr LineMeter::Rate kAttachesOfListener = {4000, 200};
constexpr LineMeter::Rate kRefusalsOfUser = {20, 1};
constexpr LineMeter::Rate kRefusalsOfListener = {200, 10};

constexpr absl::string_view kActions[] = {"Preload",      "Evict",      "Pin",       "Unpin",
                                          "DrainGpu",     "ResumeGpu",  "DrainNode", "ResumeNode",
                                          "ReloadConfig", "SetLogLevel"};

AuditLine::Kind KindOf(const service::CallRecord& call) {
  if (std::find(std::begin(kActions), std::end(kActions), call.method) != std::end(kActions)) {
    return AuditLine::Kind::kAdmin;
  }
  const bool ok = call.outcome.ok();
  if (call.method == "Acquire") {
    return ok ? AuditLine::Kind::kAttach : AuditLine::Kind::kRefused;
  }
  if (!ok && (call.method == "Claim" || call.method == "Connect")) {
    return AuditLine::Kind::kRefused;
  }
  switch (ReasonOf(call.outcome)) {
    case Reason::kNotAllowed:
    case Reason::kSessionInvalid:
    case Reason::kLeaseUnknown:
    case Reason::kTooManyRequests:
    case Reason::kQuotaExceeded:
      return AuditLine::Kind::kRefused;
    default:
      return AuditLine::Kind::kOther;
  }
}

absl::string_view EventOf(AuditLine::Kind kind, absl::string_view method) {
  if (method == "Acquire") {
    return "audit.attach";
  }
  switch (kind) {
    case AuditLine::Kind::kAdmin:
      return "audit.admin";
    case AuditLine::Kind::kAttach:
      return "audit.attach";
    case AuditLine::Kind::kRefused:
      return "audit.refused";
    case AuditLine::Kind::kOther:
      return "audit.call";
  }
  return "audit.call";
}

std::string OutcomeOf(const absl::Status& outcome) {
  return outcome.ok()
             ? "OK"
             : v1::ErrorReason_Name(static_cast<v1::ErrorReason>(weightd::ReasonOf(outcome)));
}

}  // namespace

AuditLine AuditLineOf(const service::CallRecord& call) {
  AuditLine line;
  line.kind = KindOf(call);
  line.event = EventOf(line.kind, call.method);
  std::vector<LogField>& fields = line.fields;
  const auto add_text = [&fields](absl::string_view key, const std::string& text) {
    if (!text.empty()) {
      fields.emplace_back(key, ToUtf8(text));
    }
  };
  const auto add_number = [&fields](absl::string_view key, std::optional<uint32_t> number) {
    if (number.has_value()) {
      fields.emplace_back(key, *number);
    }
  };
  add_text("request_id", call.request_id);
  add_text("listener", call.caller.listener);
  add_number("uid", call.caller.uid);
  add_number("gid", call.caller.gid);
  add_text("certificate", call.caller.certificate);
  add_text("address", call.caller.address);
  fields.emplace_back("method", call.method);
  add_text("model", call.model);
  add_text("details", call.details);
  fields.emplace_back("outcome", OutcomeOf(call.outcome));
  fields.emplace_back("duration_ms", absl::ToDoubleMilliseconds(call.took));
  add_text("error", std::string(call.outcome.message()));
  return line;
}

AuditLog::AuditLog()
    : attaches_(kAttachesOfUser, kAttachesOfListener),
      refusals_(kRefusalsOfUser, kRefusalsOfListener) {}

void AuditLog::WriteLeftOut() {
  absl::MutexLock lock(&mutex_);
  WriteLeftOutBy(absl::Now());
}

void AuditLog::Ended(const service::CallRecord& call) {
  const AuditLine::Kind kind = KindOf(call);
  bool write = kind != AuditLine::Kind::kOther || CurrentLogLevel() == LogLevel::kDebug;
  {
    const absl::Time now = absl::Now();
    absl::MutexLock lock(&mutex_);
    if (kind == AuditLine::Kind::kAttach) {
      write = attaches_.Admit(call.caller.listener, call.caller.uid, now);
    } else if (kind == AuditLine::Kind::kRefused) {
      write = refusals_.Admit(call.caller.listener, call.caller.uid, now);
    }
    if (clock_.Strikes(now)) {
      WriteLeftOutBy(now);
    }
  }
  if (!write) {
    return;
  }
  const AuditLine line = AuditLineOf(call);
  if (kind == AuditLine::Kind::kAdmin) {
    LogAlways(line.event, line.fields);
  } else {
    Log(kind == AuditLine::Kind::kOther ? LogLevel::kDebug : LogLevel::kInfo, line.event,
        line.fields);
  }
}

void AuditLog::WriteLeftOutBy(absl::Time now) {
  const auto write = [now](ClientLineMeter& meter, absl::string_view kind) {
    for (const auto& [who, lines] : meter.TakeLeftOut(now)) {
      Log(LogLevel::kInfo, "audit.left_out", {{"kind", kind}, {"who", who}, {"lines", lines}});
    }
  };
  write(attaches_, "attach");
  write(refusals_, "refused");
}

}  // namespace weightd
