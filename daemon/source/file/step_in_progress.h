#ifndef WEIGHTD_DAEMON_SOURCE_FILE_STEP_IN_PROGRESS_H_
#define WEIGHTD_DAEMON_SOURCE_FILE_STEP_IN_PROGRESS_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/source/file/read_steps.h"

namespace weightd::source {

// A huge page, of which kStepBytes are used, taken when first asked for.
class BounceBuffer {
 public:
  // Null if there is no memory.
  std::byte* data();

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<std::byte, Free> memory_;
};

// A step while it is read, perhaps in several reads. Knows what to ask next and what an answer
// means.
class StepInProgress {
 public:
  // Both outlive the reading. kHostMemoryShort if there is none for a bounce buffer.
  absl::Status Start(const OpenedFile* file, const ReadStep* step);

  int fd() const { return file_->fd.get(); }
  const ReadStep& step() const { return *step_; }

  // What to ask the kernel for next.
  std::byte* target() { return begin_ + read_; }
  uint32_t bytes_left() const { return static_cast<uint32_t>(step_->read.size() - read_); }
  uint64_t offset() const { return step_->read.begin + read_; }

  // Takes the kernel's answer: bytes read or a negative errno. True once the wanted bytes are in
  // place.
  absl::StatusOr<bool> Take(int64_t result);

 private:
  const OpenedFile* file_ = nullptr;
  const ReadStep* step_ = nullptr;
  BounceBuffer bounce_;
  std::byte* begin_ = nullptr;
  uint64_t read_ = 0;
};

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_FILE_STEP_IN_PROGRESS_H_
