#include "daemon/source/s3/s3_lanes.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace weightd::source {
namespace {

constexpr int kRetriesPerConnection = 5;
constexpr absl::Duration kTick = absl::Milliseconds(100);

}  // namespace

S3Lanes::S3Lanes(S3Dialect::Options store, const HttpSourceOptions& options)
    : dialect_(std::move(store)), budget_(kRetriesPerConnection * options.connections) {
  for (int i = 0; i < options.connections; ++i) {
    lanes_.push_back(std::make_unique<S3Lane>(&dialect_, &budget_, options));
  }
}

absl::Status S3Lanes::ForEach(size_t count, const Task& task, absl::FunctionRef<void()> tick,
                              Cancellation& stop) {
  std::atomic<size_t> next = 0;
  absl::Mutex mutex;
  size_t running = std::min(count, lanes_.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(count, lanes_.size()); ++i) {
    threads.emplace_back([&, lane = lanes_[i].get()] {
      for (size_t j = next++; j < count && !stop.cancelled(); j = next++) {
        if (const absl::Status status = task(j, *lane); !status.ok()) {
          stop.Cancel(status);
        }
      }
      absl::MutexLock lock(&mutex);
      --running;
    });
  }
  const auto is_done = [&running] { return running == 0; };
  for (bool done = false; !done;) {
    {
      absl::MutexLock lock(&mutex);
      done = mutex.AwaitWithTimeout(absl::Condition(&is_done), kTick);
    }
    tick();
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  return stop.status();
}

uint64_t S3Lanes::bytes_in_flight() const {
  uint64_t bytes = 0;
  for (const auto& lane : lanes_) {
    bytes += lane->sent;
  }
  return bytes;
}

}  // namespace weightd::source
