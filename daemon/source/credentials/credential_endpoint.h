#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_ENDPOINT_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_ENDPOINT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/http/http_call.h"

// What the sources that ask a service have in common.

namespace weightd::source {

// A GET of `url`, which `variable` names to people, by the rules for services: one that is local to
// the node or its cloud (loopback, link-local) is asked directly, others through the environment's
// proxy. kInvalidArgument if it is no http: or https: URL.
absl::StatusOr<HttpCall> CallOf(absl::string_view name, absl::string_view variable,
                                const std::string& url, const Environment& environment);

// True for "http://…", whatever the case.
bool IsPlainHttp(absl::string_view url);

// The error of a call, as one of the source `kind`.
absl::Status ServiceError(absl::string_view kind, const absl::Status& status);

// The error of an answer that is not 200. `detail` may be empty.
absl::Status ServiceRefusal(absl::string_view kind, int status, absl::string_view detail,
                            absl::string_view hint);

// The token in `path`, without white space around it. kSourceDenied, with `variable`'s name, if it
// can't be read or can't stand in a header.
absl::StatusOr<std::string> ReadToken(absl::string_view kind, absl::string_view variable,
                                      const std::string& path);

// Whether it can stand in a header line as one word.
bool IsHeaderWord(absl::string_view text);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_ENDPOINT_H_
