#include "client/cli/store_access.h"

#include <utility>

#include "common/status.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/file/file_source.h"
#include "daemon/source/hf/hf_settings.h"
#include "daemon/source/hf/hf_source.h"
#include "daemon/source/http/http_source.h"
#include "daemon/source/s3/s3_source.h"

namespace weightd::cli {
namespace {

// The process's; a profile that is named on the command line goes before keys that are set.
source::Environment EnvironmentFor(const std::string& profile) {
  source::Environment environment = source::Environment::OfProcess();
  if (!profile.empty()) {
    environment.variable =
        [profile, rest = std::move(environment.variable)](absl::string_view name) -> std::string {
      if (name == "AWS_PROFILE") {
        return profile;
      }
      const bool is_key = name == "AWS_ACCESS_KEY_ID" || name == "AWS_SECRET_ACCESS_KEY" ||
                          name == "AWS_SESSION_TOKEN";
      return is_key ? "" : rest(name);
    };
  }
  return environment;
}

}  // namespace

absl::StatusOr<source::S3Location> LocationOf(const StoreAccess& access) {
  source::S3Location location = source::LocationOfEnvironment(EnvironmentFor(access.profile));
  if (!access.endpoint.empty()) {
    location.endpoint = access.endpoint;
  }
  if (!access.region.empty()) {
    location.region = access.region;
  }
  if (!location.endpoint.empty()) {
    RETURN_IF_ERROR(Annotate(source::ParseEndpoint(location.endpoint).status(),
                             "--endpoint or AWS_ENDPOINT_URL"));
  }
  return location;
}

// Whoever runs a command may run the programs of his own profile.
std::shared_ptr<source::CredentialProvider> CredentialsOf(const StoreAccess& access) {
  return source::MakeCredentialProvider(
      {.given = {}, .allow_process = true, .region = access.region},
      EnvironmentFor(access.profile));
}

absl::StatusOr<source::Registry> MakeSources(const StoreAccess& access) {
  source::Registry sources;
  // What is read once may as well come from the page cache, and go there.
  sources.Add("file", source::MakeFileSource({.roots = {}, .direct_io = false}));
  source::HttpSourceOptions options;
  options.ca_file = access.ca_file;
  ASSIGN_OR_RETURN(std::shared_ptr<source::Source> http, source::MakeHttpSource(options));
  sources.Add("http", http);
  sources.Add("https", std::move(http));
  source::S3SourceOptions s3_options;
  ASSIGN_OR_RETURN(s3_options.elsewhere, LocationOf(access));
  s3_options.credentials = CredentialsOf(access);
  s3_options.http = options;
  ASSIGN_OR_RETURN(std::shared_ptr<source::Source> s3, source::MakeS3Source(std::move(s3_options)));
  sources.Add("s3", std::move(s3));
  source::HfSourceOptions hub;
  hub.settings = source::HfSettingsOf(source::Environment::OfProcess());
  hub.http = options;
  ASSIGN_OR_RETURN(std::shared_ptr<source::Source> hf, source::MakeHfSource(std::move(hub)));
  sources.Add("hf", std::move(hf));
  return sources;
}

}  // namespace weightd::cli
