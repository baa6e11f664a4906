#include "client/cpp/daemon_gone.h"

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::client {

bool IsSocketPath(absl::string_view where) { return absl::StrContains(where, '/'); }

absl::Status DaemonGone(absl::string_view what, absl::string_view where) {
  if (!IsSocketPath(where)) {
    return Error(Reason::kDaemonUnreachable, what,
                 absl::StrCat("is weightd running there, with admin.tcp.address: ", where, "?"));
  }
  return Error(Reason::kDaemonUnreachable, what,
               absl::StrCat("is weightd running, and is its socket ", where,
                            "? Name another folder with --socket-dir, socket_dir or WEIGHTD_DIR"));
}

absl::Status CannotConnect(int error_number, absl::string_view socket_path) {
  const absl::Status cause = ErrnoError(error_number, absl::StrCat("connect to ", socket_path));
  if (error_number == EACCES || error_number == EPERM) {
    return Error(Reason::kNotAllowed, cause.message(),
                 "run as the daemon's user, or give this user a listener in its config");
  }
  return DaemonGone(cause.message(), socket_path);
}

}  // namespace weightd::client
