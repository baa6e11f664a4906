#include "common/status.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace weightd {
namespace {

constexpr absl::string_view kReasonPayload = "weightd.reason";
constexpr absl::string_view kHintPayload = "weightd.hint";

Reason ClosestReason(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return Reason::kUnspecified;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return Reason::kInvalidArgument;
    case absl::StatusCode::kNotFound:
      return Reason::kModelNotFound;
    case absl::StatusCode::kPermissionDenied:
      return Reason::kNotAllowed;
    case absl::StatusCode::kUnauthenticated:
      return Reason::kSessionInvalid;
    case absl::StatusCode::kResourceExhausted:
      return Reason::kTooManyRequests;
    case absl::StatusCode::kUnavailable:
      return Reason::kSourceUnavailable;
    case absl::StatusCode::kDeadlineExceeded:
      return Reason::kDeadline;
    case absl::StatusCode::kCancelled:
      return Reason::kCancelled;
    case absl::StatusCode::kUnimplemented:
      return Reason::kUnsupported;
    case absl::StatusCode::kDataLoss:
      return Reason::kMalformedModel;
    default:
      return Reason::kInternal;
  }
}

Reason ReasonOfErrno(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return Reason::kModelNotFound;
    case EACCES:
    case EPERM:
    case ELOOP:
      return Reason::kSourceDenied;
    case ENOMEM:
      return Reason::kHostMemoryShort;
    case EMFILE:
    case ENFILE:
      return Reason::kTooManyRequests;
    default:
      return Reason::kInternal;
  }
}

}  // namespace

absl::StatusCode CodeOf(Reason reason) {
  switch (reason) {
    case Reason::kInvalidUri:
    case Reason::kInvalidArgument:
      return absl::StatusCode::kInvalidArgument;
    case Reason::kUnsupported:
      return absl::StatusCode::kUnimplemented;
    case Reason::kNotAllowed:
    case Reason::kSourceDenied:
    case Reason::kAddressRefused:
      return absl::StatusCode::kPermissionDenied;
    case Reason::kSessionInvalid:
      return absl::StatusCode::kUnauthenticated;
    case Reason::kLeaseUnknown:
    case Reason::kModelNotFound:
    case Reason::kTensorNotFound:
    case Reason::kFileNotFound:
      return absl::StatusCode::kNotFound;
    case Reason::kTooManyRequests:
    case Reason::kQuotaExceeded:
    case Reason::kBudgetExceeded:
    case Reason::kHostMemoryShort:
    case Reason::kDeviceMemoryShort:
      return absl::StatusCode::kResourceExhausted;
    case Reason::kModelNotResident:
    case Reason::kKeyMissing:
    case Reason::kKeyRefused:
    case Reason::kModelInUse:
    case Reason::kModelPinned:
    case Reason::kModelClosed:
    case Reason::kOutputNotCreated:
    case Reason::kPlacementDiffers:
    case Reason::kDeviceNotVisible:
      return absl::StatusCode::kFailedPrecondition;
    case Reason::kSourceUnavailable:
    case Reason::kShuttingDown:
    case Reason::kDaemonUnreachable:
    case Reason::kDeviceUnavailable:
      return absl::StatusCode::kUnavailable;
    case Reason::kSourceChanged:
      return absl::StatusCode::kAborted;
    case Reason::kSourceProtocol:
    case Reason::kMalformedModel:
    case Reason::kVerificationFailed:
    case Reason::kOutputNotWritten:
      return absl::StatusCode::kDataLoss;
    case Reason::kDeadline:
      return absl::StatusCode::kDeadlineExceeded;
    case Reason::kCancelled:
      return absl::StatusCode::kCancelled;
    case Reason::kUnspecified:
    case Reason::kInternal:
      return absl::StatusCode::kInternal;
  }
  return absl::StatusCode::kInternal;
}

absl::Status Error(Reason reason, absl::string_view message, absl::string_view hint) {
  absl::Status status(CodeOf(reason), message);
  status.SetPayload(kReasonPayload, absl::Cord(absl::StrCat(static_cast<int>(reason))));
  if (!hint.empty()) {
    status.SetPayload(kHintPayload, absl::Cord(hint));
  }
  return status;
}

Reason ReasonOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kReasonPayload);
  int value = 0;
  if (payload.has_value() && absl::SimpleAtoi(std::string(*payload), &value)) {
    return static_cast<Reason>(value);
  }
  return ClosestReason(status.code());
}

std::string HintOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kHintPayload);
  return payload.has_value() ? std::string(*payload) : std::string();
}

absl::Status Annotate(const absl::Status& status, absl::string_view context) {
  if (status.ok()) {
    return status;
  }
  absl::Status annotated(status.code(), absl::StrCat(context, ": ", status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

absl::Status ErrnoError(int error_number, absl::string_view what) {
  char buffer[128];
  // The GNU form, which may return a constant string instead of filling the buffer.
  const char* text = strerror_r(error_number, buffer, sizeof(buffer));
  return Error(ReasonOfErrno(error_number), absl::StrCat(what, ": ", text));
}

}  // namespace weightd
