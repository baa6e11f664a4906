#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "daemon/source/file/read_steps.h"
#include "daemon/source/file/step_in_progress.h"

namespace weightd::source {
namespace {

// Enough to keep a disk busy; more than there are processors costs nothing while threads wait for
// it.
constexpr size_t kThreads = 8;

class ThreadedReads {
 public:
  explicit ThreadedReads(const StepReads& reads) : reads_(reads) {}

  // Takes steps until there are none, or something failed. Run by each thread.
  void Work() {
    StepInProgress step;
    for (size_t index = next_++; index < reads_.steps.size(); index = next_++) {
      absl::Status status = reads_.cancellation->status();
      if (status.ok()) {
        status = Read(reads_.steps[index], step);
      }
      if (!status.ok()) {
        next_ = reads_.steps.size();
        absl::MutexLock lock(&mutex_);
        status_.Update(status);
        return;
      }
    }
  }

  absl::Status status() const {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  absl::Status Read(const ReadStep& wanted, StepInProgress& step) {
    RETURN_IF_ERROR(step.Start(&reads_.files[wanted.file], &wanted));
    while (true) {
      const ssize_t result =
          pread(step.fd(), step.target(), step.bytes_left(), static_cast<off_t>(step.offset()));
      ASSIGN_OR_RETURN(const bool done, step.Take(result < 0 ? -errno : result));
      if (done) {
        reads_.on_done(wanted);
        return absl::OkStatus();
      }
    }
  }

  const StepReads& reads_;
  std::atomic<size_t> next_ = 0;
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status ReadWithThreads(const StepReads& reads) {
  ThreadedReads work(reads);
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(kThreads, reads.steps.size()); ++i) {
    threads.emplace_back([&work] { work.Work(); });
  }
  work.Work();
  for (std::thread& thread : threads) {
    thread.join();
  }
  return work.status();
}

}  // namespace weightd::source
