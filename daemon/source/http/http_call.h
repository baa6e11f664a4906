#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CALL_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CALL_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "daemon/source/http/address_policy.h"

namespace weightd::source {

// One small request to a service that gives credentials. Objects are read by an http_source.
struct HttpCall {
  // Who is asked, for errors: "the instance metadata service". Nothing else of a call gets into
  // one.
  std::string name;
  std::string method = "GET";
  // http: or https:.
  std::string url;
  // "Name: value".
  std::vector<std::string> headers;
  std::string body;
  absl::Duration connect_timeout = absl::Seconds(1);
  // Of the whole call.
  absl::Duration timeout = absl::Seconds(5);
  // The longest body that is taken.
  size_t most_bytes = 64 << 10;
  // URL of a proxy. Empty: none, whatever the environment says.
  std::string proxy;
  // If not empty, only addresses in these networks are connected to.
  std::vector<Network> networks;
};

// Whatever the server answered, redirects too: they are not followed.
struct HttpReply {
  int status = 0;
  std::string body;
};

// kSourceUnavailable if nobody took the connection or it broke, kDeadline if somebody took it and
// gave no whole answer in time, kSourceProtocol if the answer is too long or isn't HTTP,
// kAddressRefused if the name leads only to addresses outside `networks`, kInvalidUri if the URL is
// none; or the cancellation's reason, within 100 ms. Thread-safe.
absl::StatusOr<HttpReply> Call(const HttpCall& call, Cancellation& cancellation);

// The same; what may pass (no connection, no answer in time, status 429 and 5xx) is tried again,
// `tries` times in all, with short pauses.
absl::StatusOr<HttpReply> CallPatiently(const HttpCall& call, int tries,
                                        Cancellation& cancellation);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_CALL_H_
