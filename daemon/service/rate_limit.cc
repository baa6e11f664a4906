#include "daemon/service/rate_limit.h"

#include <algorithm>

#include "common/status.h"

namespace weightd::service {
namespace {

constexpr int kBurstSeconds = 2;
constexpr size_t kFewUsers = 64;

}  // namespace

RateLimit::RateLimit(uint32_t per_second)
    : pace_(per_second == 0 ? absl::ZeroDuration() : absl::Seconds(1) / per_second),
      burst_(pace_ * per_second * kBurstSeconds),
      look_at_(kFewUsers) {}

absl::Duration RateLimit::Take(uint32_t uid, absl::Duration now) {
  if (pace_ == absl::ZeroDuration()) {
    return absl::ZeroDuration();
  }
  absl::MutexLock lock(&mutex_);
  if (earned_.size() >= look_at_) {
    ForgetIdle(now);
  }
  const auto found = earned_.find(uid);
  const absl::Duration earned = found == earned_.end() ? now : std::max(found->second, now);
  const absl::Duration wait = earned + pace_ - (now + burst_);
  if (wait > absl::ZeroDuration()) {
    return wait;
  }
  earned_[uid] = earned + pace_;
  return absl::ZeroDuration();
}

void RateLimit::ForgetIdle(absl::Duration now) {
  absl::erase_if(earned_, [now](const auto& user) { return user.second <= now; });
  look_at_ = std::max(kFewUsers, 2 * earned_.size());
}

size_t RateLimit::users() const {
  absl::MutexLock lock(&mutex_);
  return earned_.size();
}

absl::Status ConnectsTooOften() {
  return Error(Reason::kTooManyRequests,
               "this user connects more often than the listener allows one user");
}

}  // namespace weightd::service
