#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_PROCESS_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_PROCESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cancellation.h"
#include "daemon/source/credentials.h"

namespace weightd::source {

// Runs `command` in a shell, as this user, and reads credentials from what it prints (AWS SDKs and
// Tools Reference, "Process credential provider"). It and what it started in its process group are
// killed after a minute, when it prints more than 64 KiB, and when cancelled. What it prints on
// standard error is dropped, for it may hold secrets. `kind` names it in errors.
absl::StatusOr<Credentials> RunCredentialProcess(const std::string& command, absl::string_view kind,
                                                 Cancellation& cancellation);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_PROCESS_H_
