#ifndef WEIGHTD_DAEMON_SERVICE_RATE_LIMIT_H_
#define WEIGHTD_DAEMON_SERVICE_RATE_LIMIT_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weightd::service {

// How often each user may do something: so many times a second, and twice as many at once after a
// pause. The clock is handed in; it never goes back. Users who paused for two seconds are
// forgotten, so that as many are remembered as did something lately. Thread-safe.
class RateLimit {
 public:
  // 0: as often as they like.
  explicit RateLimit(uint32_t per_second);

  // Zero if the user may do it now, which counts; else how long it is until then.
  absl::Duration Take(uint32_t uid, absl::Duration now) ABSL_LOCKS_EXCLUDED(mutex_);

  // How many are remembered.
  size_t users() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void ForgetIdle(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Between two at an even pace; zero without a limit.
  const absl::Duration pace_;
  // What may be done at once, at that pace.
  const absl::Duration burst_;
  mutable absl::Mutex mutex_;
  // When the user, at an even pace, will have earned all that was done.
  absl::flat_hash_map<uint32_t, absl::Duration> earned_ ABSL_GUARDED_BY(mutex_);
  // How many users are remembered before the next look for idle ones.
  size_t look_at_ ABSL_GUARDED_BY(mutex_);
};

// For connections that came too often.
absl::Status ConnectsTooOften();

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_RATE_LIMIT_H_
