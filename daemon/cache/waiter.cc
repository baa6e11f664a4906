#include "daemon/cache/waiter.h"

#include <utility>

namespace weightd::cache {

Waiter::Waiter(Progress progress, Done done)
    : progress_(std::move(progress)), done_(std::move(done)) {}

bool Waiter::Begin(bool last) {
  absl::MutexLock lock(&mutex_);
  const auto my_turn = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return running_ == 0 || runner_ == std::this_thread::get_id();
  };
  mutex_.Await(absl::Condition(&my_turn));
  if (closed_) {
    return false;
  }
  closed_ = last;
  ++running_;
  runner_ = std::this_thread::get_id();
  return true;
}

void Waiter::End() {
  // What the callbacks hold may hold our owner: it dies without the lock.
  Progress progress;
  Done done;
  absl::MutexLock lock(&mutex_);
  if (--running_ == 0 && closed_) {
    progress = std::exchange(progress_, nullptr);
    done = std::exchange(done_, nullptr);
  }
}

void Waiter::TellProgress(const ProgressSnapshot& progress) {
  if (!Begin(/*last=*/false)) {
    return;
  }
  if (progress_ && progress != told_) {
    told_ = progress;
    progress_(progress);
  }
  End();
}

bool Waiter::TellDone(absl::StatusOr<Grant> outcome) {
  if (!Begin(/*last=*/true)) {
    return false;
  }
  if (done_) {
    done_(std::move(outcome));
  }
  End();
  return true;
}

bool Waiter::Close() {
  Progress progress;
  Done done;
  absl::MutexLock lock(&mutex_);
  const bool was_open = !closed_;
  closed_ = true;
  const auto quiet = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return running_ == 0 || runner_ == std::this_thread::get_id();
  };
  mutex_.Await(absl::Condition(&quiet));
  if (running_ == 0) {
    progress = std::exchange(progress_, nullptr);
    done = std::exchange(done_, nullptr);
  }
  return was_open;
}

}  // namespace weightd::cache
