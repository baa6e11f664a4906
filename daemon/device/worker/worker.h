#ifndef WEIGHTD_DAEMON_DEVICE_WORKER_WORKER_H_
#define WEIGHTD_DAEMON_DEVICE_WORKER_WORKER_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/cuda_memory.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "daemon/device/worker/answers.h"
#include "daemon/device/worker/ring.h"
#include "daemon/device/worker_messages.h"

namespace weightd::device {

// What a worker process does with requests. One thread, the operator, does everything to segments
// but copying into them, one thing after another; the ring's threads copy. Lives as long as the
// process.
class Worker {
 public:
  // Returns at once: the greeting is sent when the GPU's context was retained. A worker that can't
  // work ends the process.
  Worker(const GpuId& gpu, std::string driver, uint64_t ring_bytes, Answers& answers);
  Worker(const Worker&) = delete;

  // From the thread that reads them, in their order. Doesn't wait for the GPU.
  void Take(const Request& request, std::vector<Fd> fds) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Allocation {
    CudaMemory memory;
    bool legacy = false;
    // Filled through the ring, and not finished.
    bool filling = false;
  };

  [[noreturn]] void Operate();
  absl::Status Open();
  void Post(std::function<void()> task) ABSL_LOCKS_EXCLUDED(mutex_);

  void AnswerMemory(const Request& request);
  absl::Status Create(const Request& request, const std::vector<Fd>& fds);
  absl::Status Clear(const CudaMemory& memory, const Runs& runs) const;
  // Writes down what an import will look for.
  absl::Status Mark(const CudaMemory& memory, const Request& request) const;
  absl::Status Import(const Request& request, const std::vector<Fd>& fds);
  absl::Status CopyOnDevice(const CudaMemory& from, const CudaMemory& to) const;
  void Finish(const Request& request);
  absl::Status Export(const Request& request, Answer& answer, Fd& exported);
  void Free(const Request& request);

  const GpuId gpu_;
  const std::string library_;
  const uint64_t ring_bytes_;
  Answers& answers_;

  // Of the operator.
  std::shared_ptr<const CudaContext> context_;
  cuda::CUstream stream_ = nullptr;
  cuda::CUevent event_ = nullptr;
  absl::flat_hash_map<uint64_t, Allocation> segments_;
  // Made by the operator before the greeting, to which requests come after.
  std::optional<Ring> ring_;

  absl::Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);

  // Last: it uses the others.
  std::thread operator_;
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_WORKER_WORKER_H_
