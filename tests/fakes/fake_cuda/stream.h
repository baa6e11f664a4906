#ifndef WEIGHTD_TESTS_FAKES_FAKE_CUDA_STREAM_H_
#define WEIGHTD_TESTS_FAKES_FAKE_CUDA_STREAM_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

namespace weightd::fake_cuda {

// Work that a thread does in order, some time after it was asked for. Thread-safe; destroy it after
// the last call.
class Stream {
 public:
  // `blocking`: one that the default stream waits for.
  explicit Stream(bool blocking);
  // Waits until all work is done.
  ~Stream();
  Stream(const Stream&) = delete;

  bool blocking() const { return blocking_; }
  void Enqueue(std::function<void()> work);
  // Until all that was enqueued before is done.
  void Drain();

 private:
  void Run();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !queue_.empty() || ending_; }

  const bool blocking_;
  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  // The thread is detached: one that lives at the process's end must not be waited for then.
  absl::Notification ended_;
};

// Complete before its first record, and again when the stream reached its last. Thread-safe.
class Event {
 public:
  // What the stream is to notify.
  std::shared_ptr<absl::Notification> Record();
  // Null if it was never recorded.
  std::shared_ptr<absl::Notification> last() const;

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<absl::Notification> last_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::fake_cuda

#endif  // WEIGHTD_TESTS_FAKES_FAKE_CUDA_STREAM_H_
