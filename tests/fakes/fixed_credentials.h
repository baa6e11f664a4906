#ifndef WEIGHTD_TESTS_FAKES_FIXED_CREDENTIALS_H_
#define WEIGHTD_TESTS_FAKES_FIXED_CREDENTIALS_H_

#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "common/cancellation.h"
#include "daemon/source/credentials.h"
#include "daemon/source/credentials/credential_provider.h"

namespace weightd::fakes {

// The same key for everybody, for good. `secret` is the secret key.
class FixedCredentials final : public source::CredentialProvider {
 public:
  explicit FixedCredentials(std::string secret, std::string token = "")
      : credentials_{.access_key_id = "key",
                     .secret_access_key = std::move(secret),
                     .session_token = std::move(token),
                     .kind = "a test"} {}

  absl::StatusOr<std::optional<source::Credentials>> Get(Cancellation&) override {
    return credentials_;
  }
  void Invalidate(const source::Credentials&) override {}

 private:
  const source::Credentials credentials_;
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FIXED_CREDENTIALS_H_
