#include "daemon/source/http/connection_policy.h"

#include <algorithm>

#include "common/byte_range.h"

namespace weightd::source {
namespace {

// What twice the connections must bring to be worth it: on a link where each is slow they bring
// close to twice as much.
constexpr double kWorthwhile = 1.25;
// So many looks in a row have to agree: some servers send in bursts.
constexpr int kLooks = 2;
// A connection takes some round trips to come up to speed.
constexpr int kPatience = kLooks + 2;
constexpr int kLookAgain = 50;
// Smaller requests cost more than they bring.
constexpr uint64_t kLeastRange = 4 << 20;
// Of what is left, per connection.
constexpr int kRangesLeft = 2;
constexpr int kAwaitedPerBackground = 4;

}  // namespace

ConnectionCount::ConnectionCount(int first, int most)
    : count_(std::min(first, most)), most_(most) {}

int ConnectionCount::count() const { return std::min(count_, most_); }

void ConnectionCount::Observe(double bytes_per_second) {
  ++observed_;
  switch (stage_) {
    case Stage::kStarting:
      // Connections were made; what they bring is seen from now on.
      Measure();
      break;
    case Stage::kMeasuring:
      // A server that warms up, or a moment's pause, must not look like a gain of the next try.
      rate_before_ = std::max(rate_before_, bytes_per_second);
      if (observed_ >= kLooks) {
        Try();
      }
      break;
    case Stage::kTrying:
      worthwhile_ = bytes_per_second >= kWorthwhile * rate_before_ ? worthwhile_ + 1 : 0;
      if (worthwhile_ >= kLooks) {
        rate_before_ = bytes_per_second;
        Try();
      } else if (observed_ >= kPatience ||
                 (observed_ >= kLooks && bytes_per_second < rate_before_)) {
        Settle(count_before_);
      }
      break;
    case Stage::kSettled:
      if (observed_ >= kLookAgain) {
        Measure();
      }
  }
}

void ConnectionCount::Measure() {
  stage_ = Stage::kMeasuring;
  observed_ = 0;
  rate_before_ = 0;
}

void ConnectionCount::Try() {
  if (count_ >= most_) {
    Settle(most_);
    return;
  }
  count_before_ = count_;
  count_ = std::min(2 * count_, most_);
  stage_ = Stage::kTrying;
  observed_ = 0;
  worthwhile_ = 0;
}

void ConnectionCount::Settle(int count) {
  count_ = count;
  stage_ = Stage::kSettled;
  observed_ = 0;
}

void ConnectionCount::Refused() { Settle(std::max(count() / 2, std::min(kFirst, count()))); }

void ConnectionCount::SetMost(int most) {
  // What was held down may try at once.
  if (most > most_ && count_ >= most_ && settled()) {
    Measure();
    count_ = most_;
  }
  most_ = most;
}

int MostConnections(int budget, bool awaited, ReadCounts counts, int awaited_in_use) {
  double most = budget * ShareOf(awaited, counts);
  if (!awaited && counts.awaited > 0) {
    most = std::min(
        most, static_cast<double>(awaited_in_use) / kAwaitedPerBackground / counts.background);
  }
  return std::max(static_cast<int>(most), 1);
}

uint64_t RangeBytes(uint64_t rest, int connections, uint64_t largest) {
  const uint64_t even = rest / (static_cast<uint64_t>(connections) * kRangesLeft);
  return std::min(std::max(AlignUp(even, kPageBytes), kLeastRange), largest);
}

}  // namespace weightd::source
