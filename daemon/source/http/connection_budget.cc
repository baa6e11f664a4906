#include "daemon/source/http/connection_budget.h"

#include <algorithm>

namespace weightd::source {

int ConnectionBudget::first() const {
  absl::MutexLock lock(&mutex_);
  return first_;
}

void ConnectionBudget::Settled(int connections) {
  absl::MutexLock lock(&mutex_);
  // Half of it: a number that has become too large is found out only by trying a smaller one.
  first_ = std::max(connections / 2, ConnectionCount::kFirst);
}

ConnectionBudget::Member::Member(ConnectionBudget* budget) : budget_(*budget) {
  absl::MutexLock lock(&budget_.mutex_);
  state_ = budget_.members_.emplace(budget_.members_.end());
}

ConnectionBudget::Member::~Member() {
  absl::MutexLock lock(&budget_.mutex_);
  budget_.members_.erase(state_);
}

int ConnectionBudget::Member::Update(bool awaited, int in_use) {
  absl::MutexLock lock(&budget_.mutex_);
  *state_ = {.awaited = awaited, .in_use = in_use};
  ReadCounts counts;
  int awaited_in_use = 0;
  for (const State& member : budget_.members_) {
    ++(member.awaited ? counts.awaited : counts.background);
    awaited_in_use += member.awaited ? member.in_use : 0;
  }
  return MostConnections(budget_.connections_, awaited, counts, awaited_in_use);
}

}  // namespace weightd::source
