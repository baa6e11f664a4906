#ifndef WEIGHTD_DAEMON_SOURCE_S3_S3_SOURCE_H_
#define WEIGHTD_DAEMON_SOURCE_S3_S3_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/source/credentials/credential_provider.h"
#include "daemon/source/http/http_options.h"
#include "daemon/source/s3/s3_store.h"
#include "daemon/source/source.h"
#include "daemon/source/traffic.h"

namespace weightd::source {

// An S3-compatible store that the operator named.
struct S3StoreOptions {
  S3Location location;
  // "bucket", "bucket/prefix/" or "*"; see ChooseStore.
  std::vector<std::string> buckets;
  // Null: nothing is signed.
  std::shared_ptr<CredentialProvider> credentials;
  bool requester_pays = false;
  // Authorities to trust; empty: those of `http`.
  std::string ca_file;
  // As HttpSourceOptions'; those of `http` don't count here.
  std::vector<std::shared_ptr<Bandwidth>> limits;
  Traffic* traffic = nullptr;
};

struct S3SourceOptions {
  std::vector<S3StoreOptions> stores;
  // Where buckets lie that no store names.
  S3Location elsewhere;
  // Used for them, only in reads that may reach any bucket (ReadPolicy::any_address); other reads
  // of them are not signed. Null: never.
  std::shared_ptr<CredentialProvider> credentials;
  HttpSourceOptions http;
};

// s3://bucket/key URIs; a query may name a version ("versionId=..."). A store's own endpoint is
// reached wherever it is, for its address is the operator's choice; AWS' as any web server.
// INVALID_ARGUMENT for options that make no sense.
absl::StatusOr<std::unique_ptr<Source>> MakeS3Source(S3SourceOptions options);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_S3_S3_SOURCE_H_
