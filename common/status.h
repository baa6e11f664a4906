#ifndef WEIGHTD_COMMON_STATUS_H_
#define WEIGHTD_COMMON_STATUS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

// Errors of weightd are absl::Status with two payloads: a stable reason, for programs, and a hint
// that says what to do, for people. Context is added once, where it is known, with Annotate().

namespace weightd {

// Why something failed. The values are those of ErrorReason in proto/weightd/v1/error.proto.
enum class Reason {
  kUnspecified = 0,
  kInvalidUri = 1,
  kInvalidArgument = 2,
  kUnsupported = 3,
  kNotAllowed = 10,
  kSessionInvalid = 11,
  kLeaseUnknown = 12,
  kTooManyRequests = 13,
  kQuotaExceeded = 14,
  kModelNotFound = 20,
  kModelNotResident = 21,
  kSourceDenied = 22,
  kSourceUnavailable = 23,
  kSourceChanged = 24,
  kSourceProtocol = 25,
  kAddressRefused = 26,
  kMalformedModel = 27,
  kVerificationFailed = 28,
  kKeyMissing = 29,
  kKeyRefused = 30,
  kBudgetExceeded = 40,
  kHostMemoryShort = 41,
  kModelInUse = 42,
  kModelPinned = 43,
  kDeviceUnavailable = 44,
  kDeviceMemoryShort = 45,
  kPlacementDiffers = 46,
  kDeadline = 50,
  kCancelled = 51,
  kShuttingDown = 52,
  kInternal = 60,
  kDaemonUnreachable = 70,
  kTensorNotFound = 71,
  kModelClosed = 72,
  kOutputNotCreated = 73,
  kOutputNotWritten = 74,
  kDeviceNotVisible = 75,
  kFileNotFound = 76,
};

// An error with the status code that belongs to `reason` (kModelNotFound is NOT_FOUND,
// kBudgetExceeded is RESOURCE_EXHAUSTED, …). `message` says what happened, to which model or file;
// `hint` what to do.
absl::Status Error(Reason reason, absl::string_view message, absl::string_view hint = {});

absl::StatusCode CodeOf(Reason reason);

// The reason of an error; for errors made without one, the closest to their code. kUnspecified for
// OK.
Reason ReasonOf(const absl::Status& status);

// Empty if there is none.
std::string HintOf(const absl::Status& status);

// The same error with "context: " before its message. OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view context);

// The one place where errno becomes Status: "what: text of error_number". ENOENT and ENOTDIR are
// kModelNotFound, EACCES, EPERM and ELOOP kSourceDenied, ENOMEM kHostMemoryShort, EMFILE and ENFILE
// kTooManyRequests, others kInternal.
absl::Status ErrnoError(int error_number, absl::string_view what);

}  // namespace weightd

#define WEIGHTD_CONCAT_INNER_(a, b) a##b
#define WEIGHTD_CONCAT_(a, b) WEIGHTD_CONCAT_INNER_(a, b)

#define RETURN_IF_ERROR(expression)                           \
  do {                                                        \
    if (absl::Status status_ = (expression); !status_.ok()) { \
      return status_;                                         \
    }                                                         \
  } while (false)

#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_(WEIGHTD_CONCAT_(status_or_, __LINE__), declaration, expression)

#define ASSIGN_OR_RETURN_(result, declaration, expression) \
  auto result = (expression);                              \
  if (!result.ok()) {                                      \
    return std::move(result).status();                     \
  }                                                        \
  declaration = *std::move(result)

#endif  // WEIGHTD_COMMON_STATUS_H_
