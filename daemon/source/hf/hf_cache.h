#ifndef WEIGHTD_DAEMON_SOURCE_HF_HF_CACHE_H_
#define WEIGHTD_DAEMON_SOURCE_HF_HF_CACHE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "daemon/source/hf/hf_names.h"
#include "daemon/source/source.h"

namespace weightd::source {

// The local folder in which huggingface_hub keeps what it has brought: of each repository
// "refs/REVISION", which holds a commit, "snapshots/COMMIT/FILE", which links to "blobs/ETAG", and
// those. No path leads out of it (openat2, RESOLVE_BENEATH), and only regular files are read.
// Others may write there: a blob counts only by its name, which is what it is verified by.
// Thread-safe.
class HfCache {
 public:
  // `folder` is absolute; empty: nothing is ever found.
  explicit HfCache(std::string folder);

  // kModelNotFound if it doesn't know the revision.
  absl::StatusOr<std::string> CommitOf(const HfName& name) const;

  struct Found {
    HfVersion version;
    // Of the blob: its size, and what Read wants.
    ObjectVersion blob;
  };
  // The file of this commit; kModelNotFound if it isn't there whole.
  absl::StatusOr<Found> Find(const HfName& name, const std::string& commit,
                             Cancellation& cancellation) const;

  // Names in a folder of this commit, as far as they are here.
  absl::StatusOr<std::vector<std::string>> List(const HfName& name, const std::string& commit,
                                                Cancellation& cancellation) const;

  // As Source's, of blobs.
  absl::Status Read(absl::Span<const ReadRequest> requests, const ReadObserver& observer,
                    Cancellation& cancellation) const;

 private:
  std::string folder_;
  std::unique_ptr<Source> blobs_;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HF_HF_CACHE_H_
