#ifndef WEIGHTD_COMMON_UPTIME_H_
#define WEIGHTD_COMMON_UPTIME_H_

#include <chrono>

#include "absl/time/time.h"

namespace weightd {

// Time on a clock that nobody sets: for whatever is due after a while. absl::Time is for what is
// shown. Not comparable between boots of the machine.
inline absl::Duration Uptime() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace weightd

#endif  // WEIGHTD_COMMON_UPTIME_H_
