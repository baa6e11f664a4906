#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_ERRORS_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_ERRORS_H_

#include <curl/curl.h>

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/source/traffic.h"

// The one place where HTTP status and CURLcode become absl::Status.

namespace weightd::source {

// Why a request failed, and whether the same request may succeed later.
struct HttpFailure {
  absl::Status status;
  bool passing = false;
  // If it may.
  RetryReason retry = RetryReason::kServerError;
  // What the server asked us to wait (Retry-After).
  absl::Duration wait = absl::ZeroDuration();
};

// Whether a server that answers so is asked too much (S3 calls it SlowDown).
inline bool MeansThrottled(int status) { return status == 429 || status == 503; }

// `name` is the redacted URI. For every status but 200, 206 and redirects.
HttpFailure FailureOfStatus(int status, absl::Duration retry_after, absl::string_view name);

// `tls_detail` is libcurl's text, used only for failures of TLS, whose texts hold nothing of the
// request, but names that the server's certificate makes up.
HttpFailure FailureOfCurl(CURLcode code, absl::string_view tls_detail, absl::string_view name);

HttpFailure ShortBody(absl::string_view name);
// Of an answer's lines before and after its body, and of the answers that only inform: a server
// could send them for ever.
inline constexpr size_t kMostHeadBytes = 256 << 10;
absl::Status HeadTooLong(absl::string_view name);
absl::Status TooManyRedirects(absl::string_view name);
absl::Status AddressRefused(absl::string_view name);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_ERRORS_H_
