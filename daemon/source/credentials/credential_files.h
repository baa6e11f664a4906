#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_FILES_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_FILES_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/source/credentials/credential_source.h"

// Credentials that somebody wrote down: in our configuration, in the environment, in the files of
// AWS' tools and of s3cmd.

namespace weightd::source {

// What our configuration says of a store's credentials: a key id with a file that holds its secret,
// or a file of profiles, as AWS' tools write it; or nothing.
struct GivenCredentials {
  std::string access_key_id;
  // Holds the secret key and, perhaps, a line's end.
  std::string secret_key_file;
  // In the same manner. May be empty.
  std::string session_token_file;
  std::string profile_file;
  // In profile_file; empty: "default".
  std::string profile;

  bool any() const {
    return !access_key_id.empty() || !secret_key_file.empty() || !session_token_file.empty() ||
           !profile_file.empty() || !profile.empty();
  }
};

// The files are read again when they change.
std::unique_ptr<CredentialSource> MakeGivenSource(GivenCredentials given);

// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN.
std::unique_ptr<CredentialSource> MakeEnvironmentSource(Environment environment);

// The profile AWS_PROFILE ("default") of AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials) and
// AWS_CONFIG_FILE (~/.aws/config): keys, or a program (credential_process), which is run only if
// `allow_process`. A profile that wants another way (roles, single sign-on) is an error, not
// another identity.
std::unique_ptr<CredentialSource> MakeProfileSource(Environment environment, bool allow_process);

// ~/.s3cfg.
std::unique_ptr<CredentialSource> MakeS3cmdSource(Environment environment);

// What s3cmd's file says; empty where it doesn't.
struct S3cmdSettings {
  Credentials credentials;
  // "host[:port]".
  std::string host_base;
  // With "%(bucket)s" where the bucket's name goes; without it, buckets are in the path.
  std::string host_bucket;
  // s3cmd's default.
  bool use_https = true;
};

struct S3cmdFile {
  S3cmdSettings settings;
  FileStamp stamp;
};

// Errors are those of ReadTextFile.
absl::StatusOr<S3cmdFile> ReadS3cmdFile(const std::string& path);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_FILES_H_
