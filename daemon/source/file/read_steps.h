#ifndef WEIGHTD_DAEMON_SOURCE_FILE_READ_STEPS_H_
#define WEIGHTD_DAEMON_SOURCE_FILE_READ_STEPS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/fd.h"

// How a file is read: a pure plan of steps, and two ways to carry it out.

namespace weightd::source {

// A file that is open for reading, at the version that was asked for.
struct OpenedFile {
  Fd fd;
  // What O_DIRECT demands of offsets, lengths and addresses; 1: the page cache is used, which
  // demands nothing.
  uint32_t alignment = 1;
  // For errors; holds no secret.
  std::string name;
};

// One read of at most `kStepBytes`.
struct ReadStep {
  uint32_t file = 0;
  uint32_t request = 0;
  // What the kernel is asked for: aligned for the file.
  ByteRange read;
  // What of it is wanted, and where that goes.
  ByteRange wanted;
  std::byte* destination = nullptr;
  // The destination can't take the read as it is: read elsewhere, then copy.
  bool bounced = false;
};

// Large enough that the disk is busy, small enough that 16 of them are a bounded bounce buffer.
inline constexpr uint32_t kStepBytes = 1 << 20;

// Appends the steps that bring `range` of a file into `destination`. Where the destination is
// congruent to the file's offset modulo `alignment` only an unaligned first and last block are
// bounced, elsewhere everything. No step writes outside of the destination. `alignment` is a power
// of two, at most kStepBytes.
void PlanSteps(uint32_t file, uint32_t request, ByteRange range, std::byte* destination,
               uint32_t alignment, std::vector<ReadStep>& steps);

struct StepReads {
  absl::Span<const OpenedFile> files;
  absl::Span<const ReadStep> steps;
  // The step's wanted bytes are in place. From any thread of the reader.
  std::function<void(const ReadStep&)> on_done;
  Cancellation* cancellation = nullptr;
};

// Carry out all steps; after the return nothing is written any more. A file that ends before a
// wanted byte is kSourceChanged.
//
// UNIMPLEMENTED, and nothing read, where the kernel gives no ring (ENOSYS or EPERM under seccomp).
absl::Status ReadWithUring(const StepReads& reads);
absl::Status ReadWithThreads(const StepReads& reads);

}  // namespace weightd::source

#endif  // WEIGHTD_DAEMON_SOURCE_FILE_READ_STEPS_H_
