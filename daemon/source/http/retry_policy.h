#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_RETRY_POLICY_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_RETRY_POLICY_H_

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

// Whether and when a failed request is tried again. Pure but for the budget's count.

namespace weightd::source {

// The tries of one request that failed.
struct FailedTries {
  // `progressed`: the try brought enough to be no failure of the server's. `served_others`: the
  // server did since the last failure, so it is busy, not down.
  void Add(bool progressed, bool served_others);

  // Those that count against the tries allowed.
  int counted = 0;
  // Those after one another, for the wait.
  int in_a_row = 0;
};

// How long to wait before the next try, or nothing if there shall be none. `attempts` are allowed.
// The wait doubles from try to try; `random` in [0, 1) spreads it over half of its length, so that
// many readers don't come back at once. `server_asks` (Retry-After) prolongs it, within reason.
std::optional<absl::Duration> NextTry(const FailedTries& failed, int attempts,
                                      absl::Duration server_asks, double random);

// Bounds the retries of one read, however many requests it has: each retry takes one, each success
// gives back a fifth, so a server that fails more than every sixth request is soon left alone.
// Thread-safe.
class RetryBudget {
 public:
  explicit RetryBudget(int retries) : most_(retries), left_(retries) {}

  // False if there is none left.
  bool Take();
  void Succeeded();
  // How often it did.
  uint64_t successes() const;

 private:
  const double most_;
  mutable absl::Mutex mutex_;
  uint64_t successes_ ABSL_GUARDED_BY(mutex_) = 0;
  double left_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_RETRY_POLICY_H_
