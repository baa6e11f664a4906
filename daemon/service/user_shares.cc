#include "daemon/service/user_shares.h"

#include <sys/resource.h>

#include <algorithm>

namespace weightd::service {

UserShares::UserShares(uint32_t limit, Users users)
    : limit_(limit), share_(users == Users::kOne ? limit : std::max(1U, limit / 2)) {}

bool UserShares::TryTake(uint32_t uid, uint32_t count) {
  absl::MutexLock lock(&mutex_);
  const auto found = by_uid_.find(uid);
  const uint32_t had = found == by_uid_.end() ? 0 : found->second;
  if (taken_ + count > limit_ || had + count > share_) {
    return false;
  }
  taken_ += count;
  by_uid_[uid] = had + count;
  return true;
}

void UserShares::GiveBack(uint32_t uid, uint32_t count) {
  absl::MutexLock lock(&mutex_);
  taken_ -= count;
  const auto of_uid = by_uid_.find(uid);
  of_uid->second -= count;
  if (of_uid->second == 0) {
    by_uid_.erase(of_uid);
  }
}

uint32_t DescriptorsInFlight() {
  constexpr rlim_t kMost = 1 << 20;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<uint32_t>(std::min(limit.rlim_cur, kMost) / 4);
}

}  // namespace weightd::service
