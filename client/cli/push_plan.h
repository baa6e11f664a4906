#ifndef WEIGHTD_CLIENT_CLI_PUSH_PLAN_H_
#define WEIGHTD_CLIENT_CLI_PUSH_PLAN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/uri.h"
#include "daemon/source/s3/s3_upload.h"

namespace weightd::cli {

// What goes where.
struct PushPlan {
  // Of the object, or of the folder.
  Uri target;
  std::vector<source::FileToUpload> files;
  // Indexes that no local file would replace. Readers of a folder of the push would go by one
  // there; one in a folder above may name its weights.
  source::StoredIndexes stored;
};

// kInvalidUri for what is no place in a store.
absl::StatusOr<Uri> ParseTarget(absl::string_view text);

// The file, or all files below the folder but hidden ones, and where `target` has them: a file goes
// to an object of that name, or into the folder if that ends with a slash. Every weight file is
// checked as the daemon checks it before a load, every index with its shards: kMalformedModel.
// Links that lead out of the folder are an error unless `follow_links`, links to folders always.
absl::StatusOr<PushPlan> PlanPush(const std::string& path, absl::string_view target,
                                  bool follow_links);

}  // namespace weightd::cli

#endif  // WEIGHTD_CLIENT_CLI_PUSH_PLAN_H_
