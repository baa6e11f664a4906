#include "tests/fakes/fake_cuda/stream.h"

#include <thread>
#include <utility>

namespace weightd::fake_cuda {

Stream::Stream(bool blocking) : blocking_(blocking) {
  std::thread([this] { Run(); }).detach();
}

Stream::~Stream() {
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  ended_.WaitForNotification();
}

void Stream::Enqueue(std::function<void()> work) {
  const absl::MutexLock lock(&mutex_);
  queue_.push_back(std::move(work));
}

void Stream::Drain() {
  absl::Notification reached;
  Enqueue([&reached] { reached.Notify(); });
  reached.WaitForNotification();
}

void Stream::Run() {
  while (true) {
    std::function<void()> work;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &Stream::HasWork));
      if (queue_.empty()) {
        break;
      }
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
  ended_.Notify();
}

std::shared_ptr<absl::Notification> Event::Record() {
  auto recorded = std::make_shared<absl::Notification>();
  const absl::MutexLock lock(&mutex_);
  last_ = recorded;
  return recorded;
}

std::shared_ptr<absl::Notification> Event::last() const {
  const absl::MutexLock lock(&mutex_);
  return last_;
}

}  // namespace weightd::fake_cuda
