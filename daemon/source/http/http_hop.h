#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_HOP_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_HOP_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/uri.h"

namespace weightd::source {

// One station of a request on its way through redirects.
struct Hop {
  // Without user info and fragment. May hold credentials in its query: never printed.
  std::string url;
  std::string scheme;
  // In lower case, numeric forms of IPv4 made plain, IPv6 without brackets.
  std::string host;
  std::string port;
  // Decoded. Sent to this hop only.
  std::string user;
  std::string password;
  // Of S3: the one that it lies in, which a request is signed for.
  std::string region;
};

absl::StatusOr<Hop> FirstHop(const Uri& uri);

// Scheme, host and port.
bool SameOrigin(const Hop& a, const Hop& b);

// Where `from` redirects to. Credentials stay with scheme, host and port they were given for; what
// a server writes as user info is dropped. kSourceProtocol if that is not http: or https:, or leads
// from https: to http:.
absl::StatusOr<Hop> NextHop(const Hop& from, absl::string_view location, absl::string_view name);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_HOP_H_
