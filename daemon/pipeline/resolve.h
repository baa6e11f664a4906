#ifndef WEIGHTD_DAEMON_PIPELINE_RESOLVE_H_
#define WEIGHTD_DAEMON_PIPELINE_RESOLVE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "common/ids.h"
#include "common/uri.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/source.h"

namespace weightd::pipeline {

// Finds the weight files that a URI stands for and stats each. A URI names
//   - a weight file, or
//   - a folder with, in this order of preference,
//       `model.safetensors.index.json` and the shards that it maps,
//       `model.safetensors`, or
//       every `*.safetensors` directly in it (where the source can list).
// NOT_FOUND if there is neither, and if one of the files is gone; kMalformedModel if a URI can't
// name one. kNotAllowed for objects without a strong validator unless policy.unpinned. A folder's
// small files are looked for as FindSmallFiles does, unless `known_small_files` is null.
absl::StatusOr<ResolvedModel> ResolveModel(source::Source& source, const Uri& uri,
                                           const source::ReadPolicy& policy,
                                           Cancellation& cancellation,
                                           const KnownSmallFiles* known_small_files = nullptr);

// SHA-256 over the URI and the name, size and validator of each file, `index_file` (may be null)
// and small ones included.
RevisionId NameRevision(const Uri& uri, const std::vector<ModelFile>& files,
                        const ModelFile* index_file, absl::Span<const SmallFile> small_files = {});

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_RESOLVE_H_
