#include "daemon/source/http/retry_policy.h"

#include <algorithm>

namespace weightd::source {
namespace {

constexpr absl::Duration kFirstWait = absl::Milliseconds(200);
constexpr absl::Duration kLongestWait = absl::Seconds(10);
constexpr absl::Duration kLongestAsked = absl::Seconds(60);
constexpr double kEarnedBySuccess = 0.2;

}  // namespace

void FailedTries::Add(bool progressed, bool served_others) {
  counted = progressed || served_others ? 1 : counted + 1;
  in_a_row = progressed ? 1 : in_a_row + 1;
}

std::optional<absl::Duration> NextTry(const FailedTries& failed, int attempts,
                                      absl::Duration server_asks, double random) {
  if (failed.counted >= attempts) {
    return std::nullopt;
  }
  absl::Duration wait = kFirstWait;
  for (int i = 1; i < failed.in_a_row && wait < kLongestWait; ++i) {
    wait *= 2;
  }
  wait = std::min(wait, kLongestWait) * (0.5 + random / 2);
  return std::max(wait, std::min(server_asks, kLongestAsked));
}

bool RetryBudget::Take() {
  absl::MutexLock lock(&mutex_);
  if (left_ < 1) {
    return false;
  }
  left_ -= 1;
  return true;
}

void RetryBudget::Succeeded() {
  absl::MutexLock lock(&mutex_);
  left_ = std::min(most_, left_ + kEarnedBySuccess);
  ++successes_;
}

uint64_t RetryBudget::successes() const {
  absl::MutexLock lock(&mutex_);
  return successes_;
}

}  // namespace weightd::source
