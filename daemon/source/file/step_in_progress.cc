#include "daemon/source/file/step_in_progress.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status.h"

namespace weightd::source {

std::byte* BounceBuffer::data() {
  if (memory_ == nullptr) {
    memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePageBytes, kHugePageBytes)));
    if (memory_ == nullptr) {
      return nullptr;
    }
    // Direct reads into small pages run at a third of the speed.
    madvise(memory_.get(), kHugePageBytes, MADV_HUGEPAGE);
  }
  return memory_.get();
}

void BounceBuffer::Free::operator()(void* memory) const { std::free(memory); }

absl::Status StepInProgress::Start(const OpenedFile* file, const ReadStep* step) {
  file_ = file;
  step_ = step;
  read_ = 0;
  begin_ = step->bounced ? bounce_.data() : step->destination;
  if (begin_ == nullptr) {
    return Error(Reason::kHostMemoryShort,
                 absl::StrCat(file->name, ": no memory for a buffer to read through"),
                 "free memory on this node");
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> StepInProgress::Take(int64_t result) {
  if (result == -EINTR || result == -EAGAIN) {
    return false;
  }
  if (result < 0) {
    const absl::Status failure = ErrnoError(static_cast<int>(-result), "read");
    return Error(Reason::kSourceUnavailable, absl::StrCat(file_->name, ": ", failure.message()));
  }
  // A read that ends early ends at the end of the file, or at a block from which it can go on.
  const uint64_t needed = step_->wanted.end - step_->read.begin;
  if (read_ + result < needed) {
    const uint64_t progress = AlignDown(result, file_->alignment);
    if (progress == 0) {
      return Error(Reason::kSourceChanged, absl::StrCat(file_->name, ": ended at byte ",
                                                        offset() + result, " while it was read"));
    }
    read_ += progress;
    return false;
  }
  if (step_->bounced) {
    std::memcpy(step_->destination, begin_ + (step_->wanted.begin - step_->read.begin),
                step_->wanted.size());
  }
  return true;
}

}  // namespace weightd::source
