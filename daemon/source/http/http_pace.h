#ifndef WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PACE_H_
#define WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PACE_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "daemon/source/http/bandwidth.h"

namespace weightd::source {

// How many bytes of bodies one thread's transfers may receive now. Used by that thread only, so
// that no byte needs a lock.
class Pace {
 public:
  // `allowance` outlives it.
  explicit Pace(Allowance* allowance)
      : allowance_(*allowance),
        step_(static_cast<int64_t>(allowance->step())),
        left_(allowance->limited() ? 0 : std::numeric_limits<int64_t>::max()) {}
  ~Pace() { allowance_.Return(left_); }
  Pace(const Pace&) = delete;

  // 0: nothing may be received for the moment.
  uint64_t left() const { return static_cast<uint64_t>(std::max<int64_t>(left_, 0)); }
  // More than is left is a debt: libcurl hands over what it has.
  void Spend(uint64_t bytes) {
    received_ += bytes;
    left_ -= static_cast<int64_t>(bytes);
  }
  // Gets more when little is left.
  void Refill() {
    if (left_ < step_ / 2) {
      left_ += static_cast<int64_t>(allowance_.Take(static_cast<uint64_t>(step_)));
    }
  }

  // Altogether.
  uint64_t received() const { return received_; }

 private:
  Allowance& allowance_;
  const int64_t step_;
  int64_t left_;
  uint64_t received_ = 0;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_HTTP_HTTP_PACE_H_
