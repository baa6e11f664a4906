#include "daemon/pipeline/parallel.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"

namespace weightd::pipeline {
namespace {

constexpr size_t kThreads = 16;

}  // namespace

absl::Status ForEachAtOnce(size_t count, absl::FunctionRef<absl::Status(size_t)> step) {
  std::atomic<size_t> next = 0;
  absl::Mutex mutex;
  absl::Status failure;
  const auto some = [&] {
    for (size_t i = next++; i < count; i = next++) {
      const absl::Status status = step(i);
      if (!status.ok()) {
        next = count;
        absl::MutexLock lock(&mutex);
        failure.Update(status);
        return;
      }
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(kThreads, count); ++i) {
    threads.emplace_back(some);
  }
  some();
  for (std::thread& thread : threads) {
    thread.join();
  }
  return failure;
}

}  // namespace weightd::pipeline
