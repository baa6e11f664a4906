#ifndef WEIGHTD_DAEMON_SOURCE_HF_HF_CACHE_H_
#define WEIGHTD_DAEMON_SOURCE_HF_HF_CACHE_H_

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "daemon/source/hf/hf_names.h"
#include "daemon/source/source.h"

namespace weightd::source {

// The local folder in which huggingface_hub keeps what it has brought: of each repository
// "refs/REVISION", which holds a commit, "snapshots/COMMIT/FILE", which links to "blobs/ETAG", and
// those. No path leads out of it (openat2, RESOLVE_BENEATH), and only regular files are read.
// Others may write there: a blob counts only by its name, which is what it is verified by: small
// ones that have git's hash whenever they are found, others once there is doubt. A damaged one is
// not read again until it is replaced. Thread-safe.
class HfCache {
 public:
  using OnDamaged = std::function<void(const HfName& name)>;

  // `folder` is absolute; empty: nothing is ever found. `on_damaged` (may be null) is called once
  // for each damaged blob.
  HfCache(std::string folder, OnDamaged on_damaged);

  // kModelNotFound if it doesn't know the revision.
  absl::StatusOr<std::string> CommitOf(const HfName& name) const;

  struct Found {
    HfVersion version;
    // Of the blob: its size, and what Read wants.
    ObjectVersion blob;
  };
  // The file of this commit; kModelNotFound if it isn't there, kVerificationFailed if its blob is
  // damaged.
  absl::StatusOr<Found> Find(const HfName& name, const std::string& commit,
                             Cancellation& cancellation) const;

  // Reads all of the blob: whether it is what it is named by. What can't be read, or is named by
  // neither of the hub's hashes, is taken for whole.
  bool IsWhole(const HfName& name, const Found& found, Cancellation& cancellation) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Says that it isn't.
  void MarkDamaged(const HfName& name, const Found& found) const ABSL_LOCKS_EXCLUDED(mutex_);

  // Names in a folder of this commit, as far as they are here.
  absl::StatusOr<std::vector<std::string>> List(const HfName& name, const std::string& commit,
                                                Cancellation& cancellation) const;

  // As Source's, of blobs.
  absl::Status Read(absl::Span<const ReadRequest> requests, const ReadObserver& observer,
                    Cancellation& cancellation) const;

 private:
  bool IsMarked(const Found& found) const ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string folder_;
  const OnDamaged on_damaged_;
  const std::unique_ptr<Source> blobs_;
  mutable absl::Mutex mutex_;
  // Places and validators of damaged blobs.
  mutable std::set<std::string> damaged_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HF_HF_CACHE_H_
