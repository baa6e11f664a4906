#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_RING_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_RING_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/byte_range.h"
#include "common/cuda_memory.h"
#include "daemon/device/runs.h"
#include "daemon/device/worker/answers.h"
#include "daemon/device/worker/upload_job.h"

namespace weightd::device {

// The bounded pinned memory that all uploads of a worker go through, in slots. Each slot has a
// thread that fills it from a source, has the GPU fetch it, and waits for that on an event, while
// the other slots are filled and fetched: the bus is never idle while there is something to copy.
// Uploads take turns, piece by piece. Thread-safe. Lives as long as the process.
class Ring {
 public:
  // As many as it takes for memcpy, which is slower than the bus on one thread, to keep up with it.
  static constexpr size_t kSlots = 16;
  // Copies of one direction share one engine: two streams keep it fed.
  static constexpr size_t kStreams = 2;

  Ring(std::shared_ptr<const CudaContext> context, uint64_t bytes, Answers& answers);
  Ring(const Ring&) = delete;

  // Allocates the slots if there are none. Called by one thread, with the context current; may be
  // called again after it failed.
  absl::Status Prepare();

  // The upload of `segment` begins.
  void Add(uint64_t segment, std::shared_ptr<const UploadJob> job) ABSL_LOCKS_EXCLUDED(mutex_);
  // Copies what of `host` belongs to runs; `request` is answered when it is on the device.
  void Copy(uint64_t segment, uint64_t request, ByteRange host, uint64_t source_offset)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Answers all copies of it that are not under way with `why`, also those to come.
  void Abort(uint64_t segment, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_);
  // Calls `then`, in any thread, once nothing of the upload waits or is under way; at once if there
  // is no such upload.
  void WhenIdle(uint64_t segment, std::function<void()> then) ABSL_LOCKS_EXCLUDED(mutex_);
  // The upload ends, idle: its source is let go. OK if it never failed and all runs were copied.
  absl::Status Remove(uint64_t segment) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Slot {
    void* buffer = nullptr;
    cuda::CUevent event = nullptr;
    cuda::CUstream stream = nullptr;
  };
  struct Copying {
    uint64_t request = 0;
    // What is not cut into pieces yet, and where its first byte can be read.
    ByteRange rest;
    uint64_t source = 0;
    int under_way = 0;
  };
  struct Line {
    std::shared_ptr<const UploadJob> job;
    std::deque<std::shared_ptr<Copying>> waiting;
    int under_way = 0;
    uint64_t copied = 0;
    absl::Status failure;
    std::vector<std::function<void()>> when_idle;

    bool idle() const { return waiting.empty() && under_way == 0; }
  };
  struct Work {
    uint64_t segment = 0;
    std::shared_ptr<const UploadJob> job;
    std::shared_ptr<Copying> copying;
    Piece piece;
  };
  // What is to be said and done once the lock is released.
  struct Outcome {
    std::vector<std::pair<uint64_t, absl::Status>> answers;
    std::vector<std::function<void()>> calls;
  };

  absl::StatusOr<Slot> MakeSlot(size_t index);
  void FreeSlots();
  [[noreturn]] void Run(const Slot& slot);
  Work Next() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Carry(const Slot& slot, const Work& work) const;
  absl::Status Issue(const Slot& slot, const Work& work) const;
  void Done(Work work, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void Fail(uint64_t segment, Line& line, const absl::Status& why, Outcome& outcome)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void CallIfIdle(Line& line, Outcome& outcome);
  void Tell(Outcome outcome) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::shared_ptr<const CudaContext> context_;
  const uint64_t slot_bytes_;
  Answers& answers_;
  // Of the thread that prepares.
  std::vector<cuda::CUstream> streams_;
  std::vector<Slot> slots_;
  std::vector<std::thread> threads_;

  absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, Line> lines_ ABSL_GUARDED_BY(mutex_);
  // The uploads that have something to cut, each once, in the order of their turns.
  std::deque<uint64_t> turns_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_RING_H_
