#ifndef WEIGHTD_DAEMON_SOURCE_TRAFFIC_H_
#define WEIGHTD_DAEMON_SOURCE_TRAFFIC_H_

#include <cstdint>

#include "absl/status/status.h"

namespace weightd::source {

// Why a request is made once more.
enum class RetryReason : uint8_t {
  // Asked too much (429, 503; S3 calls it SlowDown).
  kThrottled,
  // Another answer that says that the server can't at the moment.
  kServerError,
  // Too few bytes in time.
  kStalled,
  // An answer that ended before its end.
  kCutShort,
  // No connection, or one that broke.
  kConnection,
  // The answer said what to do otherwise: another region, another clock, other credentials.
  kCorrected,
};

// Told of what is asked of one place, and what comes of it, by whoever counts. Thread-safe; returns
// at once.
class Traffic {
 public:
  virtual ~Traffic() = default;

  // Bytes that came, those of answers that failed included. Told now and then, not for each of
  // them.
  virtual void Received(uint64_t bytes) = 0;
  // A try failed, and the request is made once more.
  virtual void TriesAgain(RetryReason reason) = 0;
  // A request ended, with its last try. Those that are given up because another one failed, or
  // nobody waits for them, don't end.
  virtual void Ended(const absl::Status& outcome) = 0;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_TRAFFIC_H_
