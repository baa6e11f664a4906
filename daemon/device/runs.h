#ifndef WEIGHTD_DAEMON_DEVICE_RUNS_H_
#define WEIGHTD_DAEMON_DEVICE_RUNS_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/byte_range.h"
#include "daemon/device/gpus.h"

namespace weightd::device {

// Bytes that lie together on the device, and what they are put together from. What is between the
// parts is filled by no run: it may be written, with zeros.
struct Piece {
  struct Part {
    // In the source.
    uint64_t source = 0;
    // From the piece's first byte.
    uint64_t at = 0;
    uint64_t bytes = 0;
  };

  uint64_t device_offset = 0;
  uint64_t bytes = 0;
  std::vector<Part> parts;

  // Without what is between the parts.
  uint64_t part_bytes() const;
};

// Where each byte of a host segment goes on a device. Immutable: thread-safe.
class Runs {
 public:
  // Runs closer than this are carried in one piece.
  static constexpr uint64_t kLargestGap = 4096;

  Runs() = default;
  // kInternal if runs share bytes or leave the device segment.
  static absl::StatusOr<Runs> Make(std::vector<CopyRun> runs, uint64_t device_bytes);

  // The next piece of `rest`, of at most `most` bytes, which it takes away from `rest`. `source` is
  // where the first byte of `rest` can be read, and moves with it. Without parts if no run has
  // bytes of `rest`, of which nothing is left then.
  Piece Cut(ByteRange& rest, uint64_t& source, uint64_t most) const;

  // What no run fills.
  std::vector<ByteRange> DeviceGaps(uint64_t device_bytes) const;
  // Of all runs.
  uint64_t bytes() const { return bytes_; }
  // By host offset.
  const std::vector<CopyRun>& list() const { return runs_; }

 private:
  std::vector<CopyRun> runs_;
  // Indices of runs_, by device offset.
  std::vector<size_t> on_device_;
  // Of each of runs_, whether the one before is also the one before it on the device.
  std::vector<bool> follows_;
  uint64_t bytes_ = 0;
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_RUNS_H_
