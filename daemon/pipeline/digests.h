#ifndef WEIGHTD_DAEMON_PIPELINE_DIGESTS_H_
#define WEIGHTD_DAEMON_PIPELINE_DIGESTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "common/cancellation.h"
#include "common/pins.h"
#include "daemon/host/host_segment.h"
#include "daemon/pipeline/model.h"
#include "daemon/source/checksum.h"

namespace weightd::pipeline {

// A file of a model, and the SHA-256 (64 digits) that it must have.
struct PinnedFile {
  uint32_t file = 0;
  std::string digest;
};

// kInvalidArgument for a pin of no file, and for one without a file's name unless there is only
// one.
absl::StatusOr<std::vector<PinnedFile>> MatchPins(const Pins& pins,
                                                  absl::Span<const ModelFile> files);

// What is known of the SHA-256 of a resident model's files: what its load verified, and what was
// computed of the sealed bytes since. Thread-safe.
class Digests {
 public:
  // What the index was made of.
  struct Header {
    // A SHA-256 that has taken it; null for a file that is decrypted in the segment.
    std::unique_ptr<source::Hasher> sha256;
    uint64_t bytes = 0;
  };

  // A header, written down.
  struct SavedHeader {
    // Of source::Hasher::Save(); empty: there is none.
    std::string sha256;
    uint64_t bytes = 0;
  };

  // `headers`: one for each file.
  Digests(const ModelIndex& index, std::vector<Header> headers);

  // What a later process makes its Digests of; by file.
  std::vector<SavedHeader> SaveHeaders() const;
  // kVerificationFailed for what SaveHeaders() doesn't give.
  static absl::StatusOr<std::vector<Header>> RestoreHeaders(absl::Span<const SavedHeader> saved);

  // Whether all pins hold. False: that can't be said before Compute(). kVerificationFailed for one
  // that doesn't.
  absl::StatusOr<bool> Hold(absl::Span<const ModelFile> files, const Pins& pins)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Hashes those of the pinned files whose digests aren't known: as fast as one processor hashes.
  // kUnsupported for a file that was decrypted.
  absl::Status Compute(const ModelIndex& index, const host::HostSegment& segment, const Pins& pins,
                       Cancellation& cancellation) ABSL_LOCKS_EXCLUDED(mutex_);

  // What the load verified, and pins that held since; ordered by file.
  std::vector<Verified> verified() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  bool Knows(uint32_t file) const ABSL_LOCKS_EXCLUDED(mutex_);

  const std::vector<Header> headers_;
  mutable absl::Mutex mutex_;
  std::vector<Verified> verified_ ABSL_GUARDED_BY(mutex_);
  // The files in `verified_` by a pin.
  absl::flat_hash_set<uint32_t> pinned_ ABSL_GUARDED_BY(mutex_);
  // By file.
  std::map<uint32_t, std::string> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_DIGESTS_H_
