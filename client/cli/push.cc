#include "client/cli/push.h"

#include <utility>

#include "client/cli/push_plan.h"
#include "common/status.h"
#include "daemon/source/credentials/credential_provider.h"
#include "daemon/source/credentials/credential_source.h"
#include "daemon/source/s3/s3_store.h"

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

absl::StatusOr<source::S3UploadOptions> OptionsFor(const PushRequest& request) {
  const source::Environment environment = EnvironmentFor(request.profile);
  source::S3UploadOptions options;
  options.location = source::LocationOfEnvironment(environment);
  if (!request.endpoint.empty()) {
    options.location.endpoint = request.endpoint;
  }
  if (!request.region.empty()) {
    options.location.region = request.region;
  }
  if (!options.location.endpoint.empty()) {
    RETURN_IF_ERROR(Annotate(source::ParseEndpoint(options.location.endpoint).status(),
                             "--endpoint or AWS_ENDPOINT_URL"));
  }
  // Whoever runs a command may run the programs of his own profile.
  options.credentials = source::MakeCredentialProvider(
      {.given = {}, .allow_process = true, .region = request.region}, environment);
  options.http.ca_file = request.ca_file;
  options.http.connections = request.connections;
  return options;
}

}  // namespace

absl::StatusOr<PushResult> Push(const PushRequest& request,
                                absl::FunctionRef<void(const source::UploadProgress&)> report,
                                Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const source::S3UploadOptions options, OptionsFor(request));
  ASSIGN_OR_RETURN(PushPlan plan, PlanPush(request.path, request.target, request.follow_links));
  ASSIGN_OR_RETURN(std::vector<source::UploadedFile> files,
                   source::UploadFiles(plan.files, plan.stored, options, report, cancellation));
  return PushResult{std::move(plan.target), std::move(files)};
}

}  // namespace weightd::cli
