#include "daemon/cache/workers.h"

#include <pthread.h>

#include <utility>

namespace weightd::cache {

Workers::Workers(const std::string& name, int threads) {
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Work(); });
    pthread_setname_np(threads_.back().native_handle(), name.c_str());
  }
}

Workers::~Workers() { Stop(); }

void Workers::Run(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  if (!stopping_) {
    tasks_.push_back(std::move(task));
  }
}

void Workers::Stop() {
  std::deque<std::function<void()>> dropped;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    dropped.swap(tasks_);
  }
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

void Workers::Work() {
  const auto wake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !tasks_.empty();
  };
  while (true) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&wake));
      if (stopping_) {
        return;
      }
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

}  // namespace weightd::cache
