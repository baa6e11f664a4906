#ifndef WEIGHTD_CLIENT_CLI_PUSH_H_
#define WEIGHTD_CLIENT_CLI_PUSH_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/store_access.h"
#include "common/cancellation.h"
#include "common/uri.h"
#include "daemon/source/s3/s3_upload.h"

namespace weightd::cli {

struct PushRequest {
  std::string path;
  std::string target;
  // See PlanPush.
  bool follow_links = false;
  StoreAccess store;
  int connections = 8;
};

struct PushResult {
  Uri target;
  std::vector<source::UploadedFile> files;
};

// Whether a push to the request's target would be let in, before there is something to push: its
// path is not looked at. See source::TryUpload.
absl::Status TryTarget(const PushRequest& request, Cancellation& cancellation);

// Checks a local model, then brings it into an S3-compatible store. See source::UploadFiles.
absl::StatusOr<PushResult> Push(const PushRequest& request,
                                absl::FunctionRef<void(const source::UploadProgress&)> report,
                                Cancellation& cancellation);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_PUSH_H_
