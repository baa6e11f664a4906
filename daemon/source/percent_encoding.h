#ifndef WEIGHTD_DAEMON_SOURCE_PERCENT_ENCODING_H_
#define WEIGHTD_DAEMON_SOURCE_PERCENT_ENCODING_H_

#include <optional>
#include <string>

#include "absl/strings/string_view.h"

// The percent-encoding that AWS signs: every byte but RFC 3986's unreserved ones is escaped, in
// upper case ("Create a signed AWS API request", UriEncode). Uri leaves more of a path as it is: a
// path of `Uri` isn't what S3 signs. Pure.

namespace weightd::source {

// "/" is escaped, too: for names and values of a query.
std::string PercentEncode(absl::string_view text);

// The absolute path of an object: "/" and the key, encoded but for its slashes. Nothing is
// normalised, for "a//b", "./a" and "a/../b" are keys of their own: a client must send the path as
// it is (libcurl: CURLOPT_PATH_AS_IS).
std::string PathOfKey(absl::string_view key);

// A "%" that begins no escape stays as it is, as does "+".
std::string PercentDecode(absl::string_view text);

// The same, strict, and with "+" for a space: how S3 writes keys if a listing is asked for with
// encoding-type=url. Nothing if an escape is malformed.
std::optional<std::string> FormDecode(absl::string_view text);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_PERCENT_ENCODING_H_
