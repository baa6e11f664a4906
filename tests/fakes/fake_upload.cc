#include "tests/fakes/fake_upload.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/time/time.h"
#include "common/status.h"
#include "tests/fakes/fake_gpus.h"
#include "tests/fakes/fake_segment.h"

namespace weightd::fakes {
namespace {

using device::CopyRun;

// The part of `run` that `host` has; empty if there is none.
CopyRun Overlap(const CopyRun& run, ByteRange host) {
  const uint64_t begin = std::max(run.host.begin, host.begin);
  const uint64_t end = std::max(begin, std::min(run.host.end, host.end));
  return {{begin, end}, run.device_offset + (begin - run.host.begin)};
}

}  // namespace

FakeUpload::FakeUpload(FakeGpus* gpus, int worker, device::UploadPlan plan, Mapping source,
                       bool late, bool held)
    : gpus_(*gpus),
      worker_(worker),
      gpu_(plan.reservation.gpu()),
      late_(late),
      held_(held),
      plan_(std::move(plan)),
      source_(std::move(source)),
      memory_(plan_.device_bytes, kUntouched),
      copied_(plan_.device_bytes, 0) {
  gpus_.CountUpload(1);
  thread_ = std::thread([this] { Work(); });
}

FakeUpload::~FakeUpload() {
  Stop();
  gpus_.CountUpload(-1);
}

uint64_t FakeUpload::Copy(ByteRange host, uint64_t source_offset) {
  gpus_.Record({gpu_, host, source_offset});
  absl::MutexLock lock(&mutex_);
  asked_.push_back({host, source_offset});
  return asked_.size();
}

absl::Status FakeUpload::Await(uint64_t copy, Cancellation& cancellation) {
  absl::MutexLock lock(&mutex_);
  awaited_ = std::max(awaited_, copy);
  while (done_ < copy) {
    RETURN_IF_ERROR(cancellation.status());
    RETURN_IF_ERROR(gpus_.UploadStatus(gpu_, worker_));
    const auto done = [this, copy]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done_ >= copy; };
    mutex_.AwaitWithTimeout(absl::Condition(&done), absl::Milliseconds(2));
  }
  return gpus_.UploadStatus(gpu_, worker_);
}

absl::StatusOr<std::shared_ptr<device::Segment>> FakeUpload::Finish(Cancellation& cancellation) {
  RETURN_IF_ERROR(gpus_.PassGate(cancellation));
  uint64_t all = 0;
  {
    absl::MutexLock lock(&mutex_);
    all = asked_.size();
  }
  RETURN_IF_ERROR(Await(all, cancellation));
  Stop();
  source_.Reset();
  plan_.source.Reset();
  for (const CopyRun& run : plan_.runs) {
    const auto begin = copied_.begin() + static_cast<int64_t>(run.device_offset);
    const auto end = begin + static_cast<int64_t>(run.host.size());
    if (std::any_of(begin, end, [](uint8_t times) { return times != 1; })) {
      return Error(Reason::kInternal, "a byte was not copied, or copied twice");
    }
  }
  RETURN_IF_ERROR(gpus_.UploadStatus(gpu_, worker_));
  return std::make_shared<FakeSegment>(&gpus_, worker_, std::move(memory_), plan_.mark,
                                       plan_.handles, /*is_private=*/false,
                                       std::move(plan_.reservation));
}

void FakeUpload::Work() {
  absl::MutexLock lock(&mutex_);
  const auto to_do = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const uint64_t wanted = late_ ? std::min<uint64_t>(awaited_, asked_.size()) : asked_.size();
    return stopped_ || (!held_ && done_ < wanted);
  };
  for (;;) {
    mutex_.Await(absl::Condition(&to_do));
    if (stopped_) {
      return;
    }
    const Asked next = asked_[done_];
    mutex_.Unlock();
    for (const CopyRun& run : plan_.runs) {
      const CopyRun part = Overlap(run, next.host);
      if (!part.host.empty()) {
        memcpy(memory_.data() + part.device_offset,
               source_.data() + next.source_offset + (part.host.begin - next.host.begin),
               part.host.size());
        for (uint64_t i = 0; i < part.host.size(); ++i) {
          ++copied_[part.device_offset + i];
        }
      }
    }
    mutex_.Lock();
    ++done_;
  }
}

void FakeUpload::Stop() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

}  // namespace weightd::fakes
