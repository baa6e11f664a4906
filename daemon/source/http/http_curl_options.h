#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CURL_OPTIONS_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CURL_OPTIONS_H_

#include <curl/curl.h>

#include <string>

#include "absl/strings/string_view.h"
#include "daemon/source/http/http_hop.h"
#include "daemon/source/http/http_options.h"

namespace weightd::source {

inline constexpr absl::string_view kUserAgent = "weightd";

// How `handle` makes a connection.
void SetConnectionOptions(CURL* handle, const HttpSourceOptions& options);

// Where its request goes, and how the answer is received. `proxy` is empty for none.
void SetRequestOptions(CURL* handle, const HttpSourceOptions& options, const Hop& hop,
                       const std::string& proxy);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CURL_OPTIONS_H_
