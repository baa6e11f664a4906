#ifndef WEIGHTD_DAEMON_SERVICE_USER_SHARES_H_
#define WEIGHTD_DAEMON_SERVICE_USER_SHARES_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace weightd::service {

// Something of which there is only so much, and of which several users take: where they share it,
// no user has more than half. Thread-safe.
class UserShares {
 public:
  enum class Users { kOne, kSeveral };

  UserShares(uint32_t limit, Users users);

  // False, and nothing taken, if the user's share or the whole does not have as many left.
  bool TryTake(uint32_t uid, uint32_t count);
  void GiveBack(uint32_t uid, uint32_t count);

 private:
  const uint32_t limit_;
  const uint32_t share_;
  absl::Mutex mutex_;
  uint32_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint32_t, uint32_t> by_uid_ ABSL_GUARDED_BY(mutex_);
};

// How many descriptors may be sent and not yet received: a quarter of what the process may have
// open. The kernel counts them against the sender's RLIMIT_NOFILE and refuses every further send
// beyond it, to whomever (ETOOMANYREFS).
uint32_t DescriptorsInFlight();

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_USER_SHARES_H_
