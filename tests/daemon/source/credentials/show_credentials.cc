// Prints what credentials the environment of this process gives, a line each: kind, key id, secret
// key, session token, seconds until they end. "none" if there are none. Errors go to standard
// error.

#include <iostream>
#include <memory>
#include <optional>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_provider.h"

int main() {
  using weightd::source::Credentials;
  weightd::Cancellation cancellation;
  const auto provider = weightd::source::MakeCredentialProvider({});
  const absl::StatusOr<std::optional<Credentials>> got = provider->Get(cancellation);
  if (!got.ok()) {
    std::cerr << got.status().message() << "\n" << weightd::HintOf(got.status()) << "\n";
    return 1;
  }
  if (!got->has_value()) {
    std::cout << "none\n";
    return 0;
  }
  const Credentials& credentials = **got;
  std::cout << credentials.kind << "\n"
            << credentials.access_key_id << "\n"
            << credentials.secret_access_key << "\n"
            << credentials.session_token << "\n"
            << absl::ToInt64Seconds(credentials.expires - absl::Now()) << "\n";
  return 0;
}
