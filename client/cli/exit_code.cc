#include "client/cli/exit_code.h"

#include "common/status.h"

namespace weightd::cli {

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) {
    return kGood;
  }
  switch (ReasonOf(status)) {
    case Reason::kInvalidUri:
    case Reason::kInvalidArgument:
    case Reason::kUnsupported:
      return kUsage;
    case Reason::kMalformedModel:
    case Reason::kVerificationFailed:
    case Reason::kSourceProtocol:
      return kMalformedData;
    case Reason::kModelNotFound:
    case Reason::kModelNotResident:
    case Reason::kLeaseUnknown:
    case Reason::kTensorNotFound:
    case Reason::kFileNotFound:
      return kNoSuchObject;
    case Reason::kDaemonUnreachable:
    case Reason::kShuttingDown:
      return kDaemonUnreachable;
    case Reason::kOutputNotCreated:
      return kCantCreate;
    case Reason::kOutputNotWritten:
      return kOutputLost;
    case Reason::kSourceUnavailable:
    case Reason::kSourceChanged:
    case Reason::kBudgetExceeded:
    case Reason::kHostMemoryShort:
    case Reason::kDeviceUnavailable:
    case Reason::kDeviceMemoryShort:
    case Reason::kTooManyRequests:
    case Reason::kQuotaExceeded:
    case Reason::kModelInUse:
    case Reason::kDeadline:
    case Reason::kCancelled:
      return kTryAgain;
    case Reason::kNotAllowed:
    case Reason::kSessionInvalid:
    case Reason::kSourceDenied:
    case Reason::kAddressRefused:
    case Reason::kKeyMissing:
    case Reason::kKeyRefused:
    case Reason::kModelPinned:
    case Reason::kPlacementDiffers:
    case Reason::kDeviceNotVisible:
      return ExitCode::kNotAllowed;
    case Reason::kUnspecified:
    case Reason::kModelClosed:
    case Reason::kInternal:
      return kOurBug;
  }
  return kOurBug;
}

}  // namespace weightd::cli
