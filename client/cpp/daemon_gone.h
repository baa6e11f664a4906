#ifndef WEIGHTD_CLIENT_CPP_DAEMON_GONE_H_
#define WEIGHTD_CLIENT_CPP_DAEMON_GONE_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace weightd::client {

// Whether the daemon is spoken to over a socket of this node; `where` else is an address.
bool IsSocketPath(absl::string_view where);

// kDaemonUnreachable with a hint that names where the daemon was looked for: a socket's path, or an
// address (HOST:PORT).
absl::Status DaemonGone(absl::string_view what, absl::string_view where);

// What connect(2) to a socket of the daemon failed with: PERMISSION_DENIED (kNotAllowed) where this
// user may not, else DaemonGone.
absl::Status CannotConnect(int error_number, absl::string_view socket_path);

}  // namespace weightd::client

#endif  // WEIGHTD_CLIENT_CPP_DAEMON_GONE_H_
