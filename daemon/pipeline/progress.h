#ifndef WEIGHTD_DAEMON_PIPELINE_PROGRESS_H_
#define WEIGHTD_DAEMON_PIPELINE_PROGRESS_H_

#include <atomic>
#include <cstdint>

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

// How far a load is. Written by the load's threads, read by anybody at any time.
struct Progress {
  std::atomic<Phase> phase = Phase::kQueued;
  std::atomic<uint64_t> bytes_done = 0;
  // 0 until known.
  std::atomic<uint64_t> bytes_total = 0;
  // Whether a client waits for it: such loads go before others where they share a limit. Written by
  // whoever knows, while the load runs.
  std::atomic<bool> awaited = true;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_PROGRESS_H_
