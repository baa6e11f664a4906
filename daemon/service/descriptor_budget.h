#ifndef WEIGHTD_DAEMON_SERVICE_DESCRIPTOR_BUDGET_H_
#define WEIGHTD_DAEMON_SERVICE_DESCRIPTOR_BUDGET_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace weightd::service {

// Descriptors that were sent and not yet received. The kernel counts them against the sender's
// RLIMIT_NOFILE and refuses every further send beyond it, to whomever (ETOOMANYREFS): so we stay
// far below, and one user's clients take at most half. Thread-safe.
class DescriptorBudget {
 public:
  explicit DescriptorBudget(int limit) : limit_(limit) {}

  // A quarter of what the process may have open.
  static int DefaultLimit();

  bool TryTake(uint32_t uid, int descriptors);
  void GiveBack(uint32_t uid, int descriptors);

 private:
  const int limit_;
  absl::Mutex mutex_;
  int taken_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint32_t, int> by_uid_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_DESCRIPTOR_BUDGET_H_
