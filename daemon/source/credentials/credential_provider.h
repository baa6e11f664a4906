#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_PROVIDER_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_PROVIDER_H_

#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "daemon/source/credentials.h"
#include "daemon/source/credentials/credential_files.h"
#include "daemon/source/credentials/credential_source.h"

namespace weightd::source {

// Gives the credentials that a store's requests are signed with, each time one is made: cheap while
// those it has will do. Thread-safe.
class CredentialProvider {
 public:
  virtual ~CredentialProvider() = default;

  // Nothing: requests are not signed (public objects). May wait for a service or a file; the
  // cancellation's reason within 100 ms. Other errors name the place that was configured and what
  // to do, and hold no secret.
  virtual absl::StatusOr<std::optional<Credentials>> Get(Cancellation& cancellation) = 0;

  // The store refused `used` as expired or unknown: if these are what Get gives, the next Get waits
  // for others.
  virtual void Invalidate(const Credentials& used) = 0;
};

struct CredentialOptions {
  GivenCredentials given;
  // Whether a profile's credential_process may be run.
  bool allow_process = false;
  // Whose STS is asked; empty: what AWS_REGION or AWS_DEFAULT_REGION say.
  std::string region;
};

// Credentials from the first of these places that somebody configured: the configuration, the
// environment's keys, AWS' files of profiles, s3cmd's file, web identity, a container's agent, the
// instance's role; else none. What is configured and doesn't work is an error: the next place would
// be another identity. The place is found at the first Get and stays; "none" is looked at again
// every minute. See credential_files.h, credential_services.h and credential_cache.h.
std::unique_ptr<CredentialProvider> MakeCredentialProvider(
    CredentialOptions options, Environment environment = Environment::OfProcess());

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_PROVIDER_H_
