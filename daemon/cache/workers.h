#ifndef WEIGHTD_DAEMON_CACHE_WORKERS_H_
#define WEIGHTD_DAEMON_CACHE_WORKERS_H_

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace weightd::cache {

// A few threads that run tasks in the order they were given. Thread-safe.
class Workers {
 public:
  // `name` is at most 15 bytes: what `ps -L` and debuggers show.
  Workers(const std::string& name, int threads);
  // As Stop().
  ~Workers();

  // After Stop() the task is dropped.
  void Run(std::function<void()> task);

  // Drops what hasn't begun, waits for what has. Not from one of the threads.
  void Stop();

 private:
  void Work();

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace weightd::cache

#endif  // WEIGHTD_DAEMON_CACHE_WORKERS_H_
