#include "daemon/metrics/labels.h"

namespace weightd::metrics {

std::string LabelOf(Reason reason) {
  switch (reason) {
    case Reason::kUnspecified:
      return "ok";
    case Reason::kInvalidUri:
      return "invalid_uri";
    case Reason::kInvalidArgument:
      return "invalid_argument";
    case Reason::kUnsupported:
      return "unsupported";
    case Reason::kNotAllowed:
      return "not_allowed";
    case Reason::kSessionInvalid:
      return "session_invalid";
    case Reason::kLeaseUnknown:
      return "lease_unknown";
    case Reason::kTooManyRequests:
      return "too_many_requests";
    case Reason::kQuotaExceeded:
      return "quota_exceeded";
    case Reason::kModelNotFound:
      return "model_not_found";
    case Reason::kModelNotResident:
      return "model_not_resident";
    case Reason::kSourceDenied:
      return "source_denied";
    case Reason::kSourceUnavailable:
      return "source_unavailable";
    case Reason::kSourceChanged:
      return "source_changed";
    case Reason::kSourceProtocol:
      return "source_protocol";
    case Reason::kAddressRefused:
      return "address_refused";
    case Reason::kMalformedModel:
      return "malformed_model";
    case Reason::kVerificationFailed:
      return "verification_failed";
    case Reason::kKeyMissing:
      return "key_missing";
    case Reason::kKeyRefused:
      return "key_refused";
    case Reason::kBudgetExceeded:
      return "budget_exceeded";
    case Reason::kHostMemoryShort:
      return "host_memory_short";
    case Reason::kModelInUse:
      return "model_in_use";
    case Reason::kModelPinned:
      return "model_pinned";
    case Reason::kDeviceUnavailable:
      return "device_unavailable";
    case Reason::kDeviceMemoryShort:
      return "device_memory_short";
    case Reason::kPlacementDiffers:
      return "placement_differs";
    case Reason::kDeadline:
      return "deadline";
    case Reason::kCancelled:
      return "cancelled";
    case Reason::kShuttingDown:
      return "shutting_down";
    // Those that only clients find.
    case Reason::kDaemonUnreachable:
    case Reason::kTensorNotFound:
    case Reason::kModelClosed:
    case Reason::kOutputNotCreated:
    case Reason::kOutputNotWritten:
    case Reason::kDeviceNotVisible:
    case Reason::kFileNotFound:
    case Reason::kInternal:
      break;
  }
  return "internal";
}

std::string LabelOf(pipeline::Phase phase) {
  switch (phase) {
    case pipeline::Phase::kQueued:
      return "queued";
    case pipeline::Phase::kResolving:
      return "resolving";
    case pipeline::Phase::kReserving:
      return "reserving";
    case pipeline::Phase::kTransferring:
      return "transferring";
    case pipeline::Phase::kSealing:
      return "sealing";
    case pipeline::Phase::kCopying:
      return "copying";
    case pipeline::Phase::kDone:
      break;
  }
  return "done";
}

std::string LabelOf(source::RetryReason reason) {
  switch (reason) {
    case source::RetryReason::kThrottled:
      return "throttled";
    case source::RetryReason::kStalled:
      return "stalled";
    case source::RetryReason::kCutShort:
      return "cut_short";
    case source::RetryReason::kConnection:
      return "connection";
    case source::RetryReason::kCorrected:
      return "corrected";
    case source::RetryReason::kServerError:
      break;
  }
  return "server_error";
}

std::string LabelOf(device::GpuStatus::State state) {
  switch (state) {
    case device::GpuStatus::State::kRunning:
      return "running";
    case device::GpuStatus::State::kDrained:
      return "drained";
    case device::GpuStatus::State::kFailed:
      return "failed";
    case device::GpuStatus::State::kIdle:
      break;
  }
  return "idle";
}

}  // namespace weightd::metrics
