#ifndef WEIGHTD_DAEMON_PIPELINE_JOB_QUEUE_H_
#define WEIGHTD_DAEMON_PIPELINE_JOB_QUEUE_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weightd::pipeline {

// A byte of a model's files.
struct FilePosition {
  // Index into the model's files.
  uint32_t file = 0;
  uint64_t offset = 0;

  // Behind every byte.
  static constexpr FilePosition End() { return {std::numeric_limits<uint32_t>::max(), 0}; }
  friend auto operator<=>(const FilePosition&, const FilePosition&) = default;
};

// Jobs that threads take in the order in which they begin in a model's files, and how far all of
// them are: whoever holds the bytes lets go of those that nobody will look at any more.
// Thread-safe.
class JobQueue {
 public:
  // Where a job begins; no job does before one of a smaller number.
  using BeginOf = std::function<FilePosition(size_t job)>;

  // Before any other call but Through(), which is the beginning until then. `on_progress` is
  // called, without a lock, whenever Through() may have changed.
  void Open(size_t jobs, size_t threads, BeginOf begin_of, std::function<void()> on_progress)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // The thread's next job, if there is one; it is through with the last one.
  std::optional<size_t> Take(size_t thread) ABSL_LOCKS_EXCLUDED(mutex_);
  // The thread's job needs no byte before `to`.
  void Advance(size_t thread, FilePosition to) ABSL_LOCKS_EXCLUDED(mutex_);

  // No job needs a byte before.
  FilePosition Through() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  bool open_ ABSL_GUARDED_BY(mutex_) = false;
  size_t jobs_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  BeginOf begin_of_ ABSL_GUARDED_BY(mutex_);
  // By thread.
  std::vector<FilePosition> at_ ABSL_GUARDED_BY(mutex_);
  // Set by Open() alone.
  std::function<void()> on_progress_;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_JOB_QUEUE_H_
