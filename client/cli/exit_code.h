#ifndef WEIGHTD_CLIENT_CLI_EXIT_CODE_H_
#define WEIGHTD_CLIENT_CLI_EXIT_CODE_H_

#include "absl/status/status.h"

namespace weightd::cli {

// What weightctl exits with, in the numbers of sysexits.h. Documented in README.md and --help:
// stable.
enum ExitCode : int {
  kGood = 0,
  kUsage = 64,
  kMalformedData = 65,
  kNoSuchObject = 66,
  kDaemonUnreachable = 69,
  kOurBug = 70,
  kCantCreate = 73,
  kOutputLost = 74,
  kTryAgain = 75,
  kNotAllowed = 77,
};

// By the error's reason.
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_EXIT_CODE_H_
