#ifndef WEIGHTD_DAEMON_PIPELINE_PROGRESS_H_
#define WEIGHTD_DAEMON_PIPELINE_PROGRESS_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace weightd::pipeline {

// The values are those of LoadPhase in proto/weightd/v1/weights.proto.
enum class Phase {
  kQueued = 1,
  kResolving = 2,
  kReserving = 3,
  kTransferring = 4,
  kSealing = 5,
  kDone = 6,
  // Only GPUs are waited for.
  kCopying = 7,
};

// Those in which a load spends time, in the order in which it comes through them.
inline constexpr std::array kTimedPhases = {Phase::kQueued,    Phase::kResolving,
                                            Phase::kReserving, Phase::kTransferring,
                                            Phase::kCopying,   Phase::kSealing};

// The phase that a load is in, used like an atomic, and how long it was in each. Set by one thread
// at a time, read by anybody at any time.
class PhaseClock {
 public:
  PhaseClock& operator=(Phase phase) {
    const int64_t now = Now();
    nanoseconds_[Index(phase_)] += now - since_.exchange(now);
    phase_ = phase;
    return *this;
  }
  operator Phase() const { return phase_; }

  // Altogether, up to now.
  absl::Duration In(Phase phase) const {
    const int64_t running = phase == phase_ ? Now() - since_ : 0;
    return absl::Nanoseconds(nanoseconds_[Index(phase)] + running);
  }

 private:
  static size_t Index(Phase phase) { return static_cast<size_t>(phase); }
  static int64_t Now() {
    return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  std::atomic<Phase> phase_ = Phase::kQueued;
  std::atomic<int64_t> since_ = Now();
  std::array<std::atomic<int64_t>, static_cast<size_t>(Phase::kCopying) + 1> nanoseconds_ = {};
};

// How far a load is. Written by the load's threads, read by anybody at any time.
struct Progress {
  PhaseClock phase;
  std::atomic<uint64_t> bytes_done = 0;
  // 0 until known.
  std::atomic<uint64_t> bytes_total = 0;
  // Whether a client waits for it: such loads go before others where they share a limit. Written by
  // whoever knows, while the load runs.
  std::atomic<bool> awaited = true;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_PROGRESS_H_
