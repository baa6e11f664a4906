#ifndef WEIGHTD_DAEMON_SERVICE_SOCKET_PLACE_H_
#define WEIGHTD_DAEMON_SERVICE_SOCKET_PLACE_H_

#include <string>

#include "absl/status/status.h"

namespace weightd::service {

// Whether nobody but root and this process' user can make `path` lead elsewhere: every folder on
// the way to its last part, as written and with links followed, is one of theirs, and others may
// not write to it (or it is sticky). kNotAllowed that names the folder where it isn't so.
absl::Status CheckTrustedPlace(const std::string& path);

// We make the last folder of a path, none above it. kInvalidArgument where that isn't enough.
absl::Status CheckParent(const std::string& path);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_SOCKET_PLACE_H_
