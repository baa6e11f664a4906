#ifndef WEIGHTD_DAEMON_PIPELINE_UPLOADS_H_
#define WEIGHTD_DAEMON_PIPELINE_UPLOADS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/byte_range.h"
#include "common/cancellation.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "daemon/device/gpus.h"
#include "daemon/pipeline/destinations.h"
#include "daemon/pipeline/model.h"

namespace weightd::pipeline {

// One load's uploads: what is copied is copied to every GPU of its destinations. A GPU that fails
// drops out, and its error is kept; the others go on. Copy is for any thread, also while another
// one awaits. In this order: constructor, Begin, Copy and Await, Finish, Drop.
class Uploads {
 public:
  // The numbers of a copy, by upload.
  using Copies = std::vector<uint64_t>;

  // Where all of them read from.
  struct Source {
    std::function<absl::StatusOr<Fd>()> open;
    uint64_t bytes = 0;
    bool pin = false;
  };

  // Both outlive it; `gpus` may be null if there are none among the destinations.
  Uploads(device::Gpus* gpus, const Destinations& destinations)
      : gpus_(gpus), destinations_(destinations) {}

  // Takes room on each GPU, one by one, and starts all uploads at once. `runs` are ordered by their
  // place on the host.
  void Begin(uint64_t device_bytes, std::vector<device::CopyRun> runs, const Source& source);

  bool empty() const { return uploads_.empty(); }

  // As device::Upload's, to all; empty if the bytes belong to no run.
  Copies Copy(ByteRange host, uint64_t source_offset);
  // Until no GPU needs those bytes where they are read from. Fails if it was cancelled, or no
  // upload is left.
  absl::Status Await(const Copies& copies, Cancellation& cancellation);
  // The first failure, if no upload is left.
  absl::Status status() const;

  // After the last Copy: until everything is on the devices. Sets the model's `copies` and
  // `copy_failures`. Fails if it was cancelled, or if there is neither a copy nor host memory.
  absl::Status Finish(Cancellation& cancellation, ResidentModel& model);

  // Frees what is not finished: before the memory goes that it is read from.
  void Drop() { uploads_.clear(); }

 private:
  struct OneUpload {
    GpuId gpu;
    // Null if it never began.
    std::unique_ptr<device::Upload> upload;
    std::atomic<bool> failed = false;
    // Set before `failed`, once.
    absl::Status failure;
  };

  static void Fail(OneUpload& one, const absl::Status& failure);

  device::Gpus* const gpus_;
  const Destinations& destinations_;
  std::vector<std::unique_ptr<OneUpload>> uploads_;
  std::vector<device::CopyRun> runs_;
};

}  // namespace weightd::pipeline

#endif  // WEIGHTD_DAEMON_PIPELINE_UPLOADS_H_
