#ifndef WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_SOURCE_H_
#define WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_SOURCE_H_

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/cancellation.h"
#include "daemon/source/credentials.h"
#include "daemon/source/credentials/text_file.h"

namespace weightd::source {

// What a process is told from outside, handed in so that nobody reads the process's own.
struct Environment {
  // The value of a variable; empty if it is not set, which for all of ours is the same.
  std::function<std::string(absl::string_view name)> variable;
  // Where ~ leads; empty: nowhere.
  std::string home;

  static Environment OfProcess();
};

// One answer of a source.
struct FetchedCredentials {
  Credentials credentials;
  // What they were read from: when one of these changes, they are fetched again.
  std::vector<FileStamp> files;
};

// One place where credentials may come from.
class CredentialSource {
 public:
  virtual ~CredentialSource() = default;

  // Nothing if nobody configured this place. What is configured and doesn't work is an error that
  // names the place, says what to do and holds no secret. Takes a bounded time, ends early when
  // cancelled. Called by one thread at a time.
  virtual absl::StatusOr<std::optional<FetchedCredentials>> Fetch(Cancellation& cancellation) = 0;
};

// OK if `credentials` can be signed with: key and secret are there, and nothing in them breaks out
// of a header line.
absl::Status CheckCredentials(const Credentials& credentials);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_CREDENTIALS_CREDENTIAL_SOURCE_H_
