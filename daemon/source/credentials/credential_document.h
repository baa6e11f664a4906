#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_DOCUMENT_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_DOCUMENT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "daemon/source/credentials.h"

// What services and programs answer when they are asked for credentials. Pure. Errors name `kind`,
// which becomes the credentials' too, and hold nothing of the text.

namespace weightd::source {

enum class DocumentStyle {
  // Containers and instances: the token is "Token"; "Code", if it is there, is "Success".
  kService,
  // Programs: the token is "SessionToken", "Version" is 1.
  kProgram,
};

// {"AccessKeyId": …, "SecretAccessKey": …, token, "Expiration": RFC 3339}. Without an expiration
// they hold for ever.
absl::StatusOr<Credentials> ParseCredentialJson(absl::string_view text, DocumentStyle style,
                                                absl::string_view kind);

// STS's AssumeRoleWithWebIdentityResponse.
absl::StatusOr<Credentials> ParseStsAnswer(absl::string_view xml, absl::string_view kind);

// The Code of an error of STS, such as "ExpiredTokenException"; empty if `xml` is none.
std::string StsErrorCode(absl::string_view xml);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_DOCUMENT_H_
