#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SOURCE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SOURCE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "daemon/source/http/http_options.h"
#include "daemon/source/source.h"

namespace weightd::source {

// http: and https: URIs, read as ranges over several kept-alive connections. INVALID_ARGUMENT for a
// malformed network.
absl::StatusOr<std::unique_ptr<Source>> MakeHttpSource(HttpSourceOptions options);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_SOURCE_H_
