#include "daemon/pipeline/job_queue.h"

#include <algorithm>
#include <utility>

namespace weightd::pipeline {

void JobQueue::Open(size_t jobs, size_t threads, BeginOf begin_of,
                    std::function<void()> on_progress) {
  on_progress_ = std::move(on_progress);
  absl::MutexLock lock(&mutex_);
  open_ = true;
  jobs_ = jobs;
  begin_of_ = std::move(begin_of);
  at_.assign(threads, FilePosition::End());
}

std::optional<size_t> JobQueue::Take(size_t thread) {
  std::optional<size_t> job;
  {
    absl::MutexLock lock(&mutex_);
    if (next_ < jobs_) {
      job = next_++;
    }
    at_[thread] = job.has_value() ? begin_of_(*job) : FilePosition::End();
  }
  if (on_progress_) {
    on_progress_();
  }
  return job;
}

void JobQueue::Advance(size_t thread, FilePosition to) {
  {
    absl::MutexLock lock(&mutex_);
    at_[thread] = to;
  }
  if (on_progress_) {
    on_progress_();
  }
}

FilePosition JobQueue::Through() const {
  absl::MutexLock lock(&mutex_);
  if (!open_) {
    return {};
  }
  FilePosition least = next_ < jobs_ ? begin_of_(next_) : FilePosition::End();
  for (const FilePosition& at : at_) {
    least = std::min(least, at);
  }
  return least;
}

}  // namespace weightd::pipeline
