#include "daemon/service/descriptor_budget.h"

#include <sys/resource.h>

#include <algorithm>

namespace weightd::service {

int DescriptorBudget::DefaultLimit() {
  constexpr rlim_t kMost = 1 << 20;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<int>(std::min(limit.rlim_cur, kMost) / 4);
}

bool DescriptorBudget::TryTake(uint32_t uid, int descriptors) {
  absl::MutexLock lock(&mutex_);
  int& of_uid = by_uid_[uid];
  if (taken_ + descriptors > limit_ || of_uid + descriptors > limit_ / 2) {
    return false;
  }
  taken_ += descriptors;
  of_uid += descriptors;
  return true;
}

void DescriptorBudget::GiveBack(uint32_t uid, int descriptors) {
  absl::MutexLock lock(&mutex_);
  taken_ -= descriptors;
  const auto of_uid = by_uid_.find(uid);
  of_uid->second -= descriptors;
  if (of_uid->second == 0) {
    by_uid_.erase(of_uid);
  }
}

}  // namespace weightd::service
