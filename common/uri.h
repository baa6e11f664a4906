#ifndef WEIGHTD_COMMON_URI_H_
#define WEIGHTD_COMMON_URI_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace weightd {

// Where a model or a file lies, parsed and normalised (RFC 3986, section 6.2.2), so that two
// spellings of one place are equal and patterns can't be fooled: scheme and host in lower case,
// default ports dropped, percent-encoded unreserved characters decoded, other escapes in upper
// case. Refused outright, in plain or encoded form: `..` segments, encoded slashes, control
// characters, NUL; fragments; `file:` URIs with a host other than localhost; `s3:` URIs with user
// info; more than 8192 bytes.
//
// `hf://organisation/name@revision/...` names a repository of a hub: names keep their case, the
// revision is always written ("main" if none was given; a slash in it is "%2F", the only escaped
// one that any URI has), and there is no query.
class Uri {
 public:
  static constexpr absl::string_view kDefaultHubRevision = "main";

  Uri() = default;

  // Schemes: file, http, https, s3, hf. A plain absolute path is a file: URI (and is
  // percent-encoded).
  static absl::StatusOr<Uri> Parse(absl::string_view text);

  const std::string& scheme() const { return scheme_; }
  // "user:password" without the "@"; empty if there is none. A secret.
  const std::string& user_info() const { return user_info_; }
  // Host in lower case, IPv6 in brackets, with ":port" unless it is the scheme's default. Empty for
  // file:. Of hf: the organisation.
  const std::string& authority() const { return authority_; }
  // Begins with "/"; percent-encoded, empty and "." segments removed.
  const std::string& path() const { return path_; }
  // Without the "?"; may hold credentials (presigned URLs).
  const std::string& query() const { return query_; }

  // The path decoded: what the operating system is asked for.
  std::string DecodedPath() const;
  // The last path segment, decoded; empty if the path ends with "/".
  std::string FileName() const;
  bool IsFolder() const { return path_.ends_with('/'); }

  // The whole normalised URI, with secrets: names the object, never printed.
  std::string ToString() const;
  // Without user info and query: for people, logs and patterns.
  std::string Redacted() const;

  // This folder's entry `name` (a relative path, decoded; each segment is encoded). The same query
  // and user info. INVALID_ARGUMENT if it is absolute, empty or leaves the folder.
  absl::StatusOr<Uri> Child(absl::string_view name) const;

  friend bool operator==(const Uri&, const Uri&) = default;

 private:
  // Of "scheme:...".
  static absl::StatusOr<Uri> ParseWithScheme(absl::string_view text);
  // Of a URI whose scheme is known: its user info and host.
  absl::Status ParseAuthority(absl::string_view authority);
  // Of an hf: URI: its path's first segment.
  absl::Status NormaliseRepository();

  std::string scheme_;
  std::string user_info_;
  std::string authority_;
  std::string path_;
  std::string query_;
};

}  // namespace weightd

#endif  // WEIGHTD_COMMON_URI_H_
