#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_H_

#include <string>

#include "absl/time/time.h"

namespace weightd::source {

// What an object store asks its clients to sign with. All but `kind` and `expires` is secret: never
// in an error, a log or a listing. A value; copies are independent.
struct Credentials {
  std::string access_key_id;
  std::string secret_access_key;
  // Empty for credentials that don't end.
  std::string session_token;
  absl::Time expires = absl::InfiniteFuture();
  // Where they came from, for people: "the configuration", "the environment", …
  std::string kind;
};

// Whether both sign the same.
inline bool SameKeys(const Credentials& a, const Credentials& b) {
  return a.access_key_id == b.access_key_id && a.secret_access_key == b.secret_access_key &&
         a.session_token == b.session_token;
}

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_H_
