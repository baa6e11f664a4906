#include "client/cli/push.h"

#include <utility>

#include "client/cli/push_plan.h"
#include "common/status.h"
#include "daemon/format/shard_index.h"

namespace weightd::cli {
namespace {

absl::StatusOr<source::S3UploadOptions> OptionsFor(const PushRequest& request) {
  source::S3UploadOptions options;
  ASSIGN_OR_RETURN(options.location, LocationOf(request.store));
  options.credentials = CredentialsOf(request.store);
  options.http.ca_file = request.store.ca_file;
  options.http.connections = request.connections;
  return options;
}

}  // namespace

absl::Status TryTarget(const PushRequest& request, Cancellation& cancellation) {
  ASSIGN_OR_RETURN(const source::S3UploadOptions options, OptionsFor(request));
  ASSIGN_OR_RETURN(Uri object, ParseTarget(request.target));
  if (object.IsFolder()) {
    ASSIGN_OR_RETURN(object, object.Child(format::kShardIndexName));
  }
  return source::TryUpload(object, options, cancellation);
}

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
