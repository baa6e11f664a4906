#ifndef WEIGHTD_DAEMON_SOURCE_S3_SIGV4_H_
#define WEIGHTD_DAEMON_SOURCE_S3_SIGV4_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "daemon/source/credentials.h"

// AWS Signature Version 4 ("Create a signed AWS API request", "Authenticating Requests: Using Query
// Parameters"). Pure: the time is handed in. Thread-safe.

namespace weightd::source {

// Stands for the payload's hash where the payload is not signed. S3 takes it over TLS, and in every
// presigned request.
inline constexpr absl::string_view kUnsignedPayload = "UNSIGNED-PAYLOAD";
// The hash of no payload.
inline constexpr absl::string_view kEmptyPayload =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct Header {
  std::string name;
  std::string value;

  friend bool operator==(const Header&, const Header&) = default;
};

// What a signature is valid for; `time` to the second, the server's clock within minutes.
struct SigningScope {
  std::string region;
  std::string service;
  absl::Time time;
};

enum class PathForm {
  // S3: the path is signed as it is sent.
  kAsSent,
  // Other services: empty and dot segments are removed, and the path is encoded again.
  kNormalised,
};

// A request, as it is sent; the caller sees to it that no field holds a line break. An unescaped
// "+" in the query is signed as a plus, which S3 itself reads as a space: escape it.
struct RequestToSign {
  std::string method;
  // The value of the Host header.
  std::string host;
  // Percent-encoded; begins with "/". See PathOfKey.
  std::string path;
  // Percent-encoded, without the "?".
  std::string query;
  // All further headers that are to be signed, in any case and order. Those that proxies change, or
  // that libcurl makes by itself, are better left out.
  std::vector<Header> headers;
  // SHA-256 in lower-case hexadecimal, kEmptyPayload, or kUnsignedPayload.
  std::string payload_hash;
  SigningScope scope;
  PathForm path_form = PathForm::kAsSent;
};

// The headers to add to the request: X-Amz-Date, for the service "s3" X-Amz-Content-Sha256, with a
// session token X-Amz-Security-Token, and Authorization. The values are secrets.
std::vector<Header> SignInHeaders(const RequestToSign& request, const Credentials& credentials);

// The query to send in place of the request's: the same with X-Amz-* parameters, whoever has it may
// make the request for `valid_for` (whole seconds; S3 takes from one second to seven days). A
// secret.
std::string SignInQuery(const RequestToSign& request, const Credentials& credentials,
                        absl::Duration valid_for);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_SIGV4_H_
