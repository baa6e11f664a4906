#ifndef WEIGHTD_DAEMON_SERVICE_OWNER_H_
#define WEIGHTD_DAEMON_SERVICE_OWNER_H_

#include <sys/types.h>

#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightd::service {

// Whose a socket folder and its sockets are to be; what is absent stays as it is.
struct Owner {
  std::optional<uid_t> user = {};
  std::optional<gid_t> group = {};

  // Whether it is somebody else than this process' user.
  bool foreign() const;
};

// "user", "user:group" or ":group", by name or number. INVALID_ARGUMENT for other forms and for
// names that this machine doesn't know.
absl::StatusOr<Owner> ParseOwner(absl::string_view text);

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_OWNER_H_
