#include "daemon/source/http/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace weightd::source {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr uint64_t kStepsPerSecond = 100;

}  // namespace

Bandwidth::Bandwidth(uint64_t bytes_per_second)
    : bytes_per_second_(bytes_per_second), bucket_(bytes_per_second, SteadyClock::now()) {}

// The clock is read under each lock, so that a bucket never sees it go back.
Allowance::Allowance(std::vector<std::shared_ptr<Bandwidth>> limits, bool awaited) {
  for (std::shared_ptr<Bandwidth>& limit : limits) {
    absl::MutexLock lock(&limit->mutex_);
    const int account = limit->bucket_.Open(awaited, SteadyClock::now());
    limits_.push_back({limit, account});
  }
}

Allowance::~Allowance() {
  for (const Limit& limit : limits_) {
    absl::MutexLock lock(&limit.bandwidth->mutex_);
    limit.bandwidth->bucket_.Close(limit.account, SteadyClock::now());
  }
}

uint64_t Allowance::step() const {
  uint64_t rate = std::numeric_limits<uint64_t>::max();
  for (const Limit& limit : limits_) {
    rate = std::min(rate, limit.bandwidth->bytes_per_second());
  }
  return std::max(rate / kStepsPerSecond, uint64_t{1});
}

uint64_t Allowance::Take(uint64_t wanted) {
  for (size_t i = 0; i < limits_.size(); ++i) {
    Bandwidth& bandwidth = *limits_[i].bandwidth;
    uint64_t taken = 0;
    {
      absl::MutexLock lock(&bandwidth.mutex_);
      taken = bandwidth.bucket_.Take(limits_[i].account, wanted, SteadyClock::now());
    }
    // What a later limit withholds stays with the earlier ones.
    for (size_t earlier = 0; earlier < i && taken < wanted; ++earlier) {
      absl::MutexLock lock(&limits_[earlier].bandwidth->mutex_);
      limits_[earlier].bandwidth->bucket_.Return(limits_[earlier].account,
                                                 static_cast<int64_t>(wanted - taken));
    }
    wanted = taken;
  }
  return wanted;
}

void Allowance::Return(int64_t bytes) {
  for (const Limit& limit : limits_) {
    absl::MutexLock lock(&limit.bandwidth->mutex_);
    limit.bandwidth->bucket_.Return(limit.account, bytes);
  }
}

void Allowance::SetAwaited(bool awaited) {
  for (const Limit& limit : limits_) {
    absl::MutexLock lock(&limit.bandwidth->mutex_);
    limit.bandwidth->bucket_.SetAwaited(limit.account, awaited, SteadyClock::now());
  }
}

}  // namespace weightd::source
