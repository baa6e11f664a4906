#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_CACHE_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_CACHE_H_

#include <functional>
#include <memory>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/source/credentials/credential_provider.h"
#include "daemon/source/credentials/credential_source.h"

namespace weightd::source {

// Keeps what `source` gave as long as it will do. One fetch runs at a time, on a thread of its own:
// - 5 minutes before the end (or at half of a shorter life) it begins, and nobody waits for it;
// - in the last 30 seconds (or the last tenth), and when a file that was read has changed, Get
// waits
//   for it, so that what is signed arrives in time; if it fails, what is left is used;
// - a failure is tried again after 30 seconds, or after one if nothing is left;
// - "nothing is configured" is asked again after a minute.
// `clock` may be called by any thread.
std::unique_ptr<CredentialProvider> MakeCachingProvider(
    std::unique_ptr<CredentialSource> source, std::function<absl::Time()> clock = &absl::Now);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_CACHE_H_
