#ifndef WEIGHTD_DAEMON_CACHE_WAITER_H_
#define WEIGHTD_DAEMON_CACHE_WAITER_H_

#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "daemon/cache/snapshots.h"

namespace weightd::cache {

// The two callbacks of somebody who waits, called one at a time and never after Close() or after
// `done`. Thread-safe. A callback may close its own waiter.
class Waiter {
 public:
  using Progress = std::function<void(const ProgressSnapshot&)>;
  using Done = std::function<void(absl::StatusOr<Grant>)>;

  Waiter(Progress progress, Done done);

  // Calls `progress` if it says something new.
  void TellProgress(const ProgressSnapshot& progress);

  // Calls `done` and closes. False if it was closed before: nobody knows of the outcome then.
  bool TellDone(absl::StatusOr<Grant> outcome);

  // No callback runs after this; waits for one that runs in another thread. Whether it was still
  // open.
  bool Close();

 private:
  bool Begin(bool last);
  void End();

  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  // Callbacks that run now: more than one only if the first one's thread came back to this waiter.
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread::id runner_ ABSL_GUARDED_BY(mutex_);

  // Used by whoever runs; after closing only by the last one who does.
  ProgressSnapshot told_ = {.phase = pipeline::Phase{}, .bytes_done = 0, .bytes_total = 0};
  Progress progress_;
  Done done_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_WAITER_H_
