#include "daemon/service/blocking_calls.h"

#include <utility>

#include "common/status.h"

namespace weightd::service {

BlockingCalls::~BlockingCalls() {
  std::list<Running> last;
  {
    absl::MutexLock lock(&mutex_);
    last.swap(running_);
  }
  for (Running& one : last) {
    one.thread.join();
  }
}

void BlockingCalls::JoinThoseDone() {
  running_.remove_if([](Running& one) {
    if (one.done) {
      // It is past its last lock: this waits for its exit only.
      one.thread.join();
    }
    return one.done;
  });
}

absl::Status BlockingCalls::Run(std::function<void()> call) {
  absl::MutexLock lock(&mutex_);
  JoinThoseDone();
  if (running_.size() >= kMost) {
    return Error(Reason::kTooManyRequests, "too many such calls run at once",
                 "wait for the others to end");
  }
  Running& added = running_.emplace_back();
  added.thread = std::thread([this, &added, call = std::move(call)] {
    call();
    absl::MutexLock done(&mutex_);
    added.done = true;
  });
  return absl::OkStatus();
}

}  // namespace weightd::service
