#ifndef WEIGHTD_DAEMON_SERVICE_BLOCKING_CALLS_H_
#define WEIGHTD_DAEMON_SERVICE_BLOCKING_CALLS_H_

#include <functional>
#include <list>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace weightd::service {

// Runs what would keep a thread of gRPC waiting on threads of its own, one for each call.
// Thread-safe.
class BlockingCalls {
 public:
  // At once.
  static constexpr size_t kMost = 16;

  BlockingCalls() = default;
  // Waits for those that run.
  ~BlockingCalls();
  BlockingCalls(const BlockingCalls&) = delete;

  // kTooManyRequests, without a call, if kMost run.
  absl::Status Run(std::function<void()> call) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Running {
    std::thread thread;
    bool done = false;
  };

  void JoinThoseDone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  std::list<Running> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::service

#endif  // WEIGHTD_DAEMON_SERVICE_BLOCKING_CALLS_H_
