#ifndef WEIGHTD_CLIENT_CLI_STORE_ACCESS_H_
#define WEIGHTD_CLIENT_CLI_STORE_ACCESS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/source/credentials/credential_provider.h"
#include "daemon/source/registry.h"
#include "daemon/source/s3/s3_store.h"

namespace weightd::cli {

// Where a store is and who asks; empty: as the environment says.
struct StoreAccess {
  std::string endpoint;
  std::string region;
  std::string profile;
  // Authorities to trust; empty: the system's.
  std::string ca_file;
};

absl::StatusOr<source::S3Location> LocationOf(const StoreAccess& access);
std::shared_ptr<source::CredentialProvider> CredentialsOf(const StoreAccess& access);

// What commands read models from: file, http, https, s3, hf, as far as this user may. A hub of
// models is found and asked as huggingface_hub does it, by the environment.
absl::StatusOr<source::Registry> MakeSources(const StoreAccess& access);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_STORE_ACCESS_H_
