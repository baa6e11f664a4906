#ifndef WEIGHTD_COMMON_CANCELLATION_H_
#define WEIGHTD_COMMON_CANCELLATION_H_

#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weightd {

// Tells work in progress to stop, once, and why. Whoever does the work asks status() between steps,
// and may register a callback that wakes it from a wait. Thread-safe.
class Cancellation {
 public:
  // Unregisters its callback when it dies; afterwards the callback runs no more.
  class Registration {
   public:
    Registration(Registration&&) = delete;
    ~Registration();

   private:
    friend class Cancellation;
    Registration(Cancellation* owner, uint64_t id) : owner_(owner), id_(id) {}
    Cancellation* const owner_;
    const uint64_t id_;
  };

  Cancellation() = default;
  Cancellation(const Cancellation&) = delete;

  // The first reason counts. Runs the callbacks, under the lock that keeps them registered: they
  // only wake somebody.
  void Cancel(absl::Status reason);

  // OK until cancelled.
  absl::Status status() const;
  bool cancelled() const { return !status().ok(); }

  // Returns after `duration`, or at once when cancelled.
  void WaitFor(absl::Duration duration);

  // Runs `wake` at once if already cancelled.
  Registration OnCancel(std::function<void()> wake);

 private:
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<uint64_t, std::function<void()>> callbacks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd

#endif  // WEIGHTD_COMMON_CANCELLATION_H_
