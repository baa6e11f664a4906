#ifndef WEIGHTD_DAEMON_DEVICE_GPU_H_
#define WEIGHTD_DAEMON_DEVICE_GPU_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "daemon/device/budget.h"
#include "daemon/device/gpu_list.h"
#include "daemon/device/gpus.h"
#include "daemon/device/worker_link.h"

namespace weightd::device {

// One GPU: its budget, and the one worker process that it has while it is used. Thread-safe.
class Gpu {
 public:
  using Lost = std::function<void(const GpuId& gpu, const absl::Status& why)>;

  // `lost` is called, from this GPU's thread, when a worker that worked ended by itself.
  Gpu(const GpuFacts& facts, uint64_t budget, const GpusOptions& options, Lost lost);
  // Ends the worker.
  ~Gpu();
  Gpu(const Gpu&) = delete;

  const GpuFacts& facts() const { return facts_; }
  const std::shared_ptr<Budget>& budget() const { return budget_; }
  GpuStatus status() const ABSL_LOCKS_EXCLUDED(mutex_);

  // The worker, ready to work: started if there is none, at most once a second.
  // kDeviceUnavailable if it can't be, or the GPU is drained.
  absl::StatusOr<std::shared_ptr<WorkerLink>> Worker() ABSL_LOCKS_EXCLUDED(mutex_);
  // In the budget, and in the memory that the driver says is free, less the options' reserve.
  absl::StatusOr<Reservation> Reserve(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Status Drain() ABSL_LOCKS_EXCLUDED(mutex_);
  void Resume() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // What the keeper does until this dies: starts the worker when one is wanted, and serves it.
  void Keep() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until a worker is to be started; false if none will be any more.
  bool AwaitWish() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::shared_ptr<WorkerLink>> Start() ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes note of how it ended; whether its segments were lost.
  bool NoteEnd(const WorkerLink& link, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status DrainedError() const;

  const GpuFacts facts_;
  const std::shared_ptr<Budget> budget_;
  const GpusOptions options_;
  const Lost lost_;

  mutable absl::Mutex mutex_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;
  // Whether somebody waits for a worker; how many times the wish was dealt with, and how last.
  bool wanted_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t attempts_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status last_attempt_ ABSL_GUARDED_BY(mutex_);
  absl::Time not_before_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  // From its start until its process is gone.
  std::shared_ptr<WorkerLink> link_ ABSL_GUARDED_BY(mutex_);
  // Why the last one ended, if by itself.
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  // A process that not even SIGKILL ended; 0 if there is none.
  int stuck_pid_ ABSL_GUARDED_BY(mutex_) = 0;

  // Last: it uses the others.
  std::thread keeper_;
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_GPU_H_
