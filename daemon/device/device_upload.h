#ifndef WEIGHTD_DAEMON_DEVICE_DEVICE_UPLOAD_H_
#define WEIGHTD_DAEMON_DEVICE_DEVICE_UPLOAD_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/cancellation.h"
#include "daemon/device/budget.h"
#include "daemon/device/device_segment.h"
#include "daemon/device/gpus.h"
#include "daemon/device/worker_link.h"

namespace weightd::device {

// A segment that a worker fills: from a host segment (public or private), or in one go from another
// device segment. Thread-safe; Finish is called once, after the last Copy.
class DeviceUpload : public Upload {
 public:
  // Allocates.
  static absl::StatusOr<std::unique_ptr<DeviceUpload>> Begin(std::shared_ptr<WorkerLink> link,
                                                             UploadPlan plan, bool is_private,
                                                             Cancellation& cancellation);
  // Allocates, and copies: on success everything is on its way.
  static absl::StatusOr<std::unique_ptr<DeviceUpload>> BeginCopyOf(std::shared_ptr<WorkerLink> link,
                                                                   const DeviceSegment& copied,
                                                                   uint64_t device_bytes,
                                                                   Reservation reservation,
                                                                   Cancellation& cancellation);
  ~DeviceUpload() override;

  uint64_t Copy(ByteRange host, uint64_t source_offset) override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Await(uint64_t copy, Cancellation& cancellation) override;
  absl::StatusOr<std::shared_ptr<Segment>> Finish(Cancellation& cancellation) override;

 private:
  DeviceUpload(std::shared_ptr<WorkerLink> link, DeviceSegment::Facts facts, Reservation charge);
  // Sends a kCreate for `facts`, and waits for it.
  static absl::StatusOr<std::unique_ptr<DeviceUpload>> Create(std::shared_ptr<WorkerLink> link,
                                                              DeviceSegment::Facts facts,
                                                              Request request, std::vector<Fd> fds,
                                                              Reservation charge,
                                                              Cancellation& cancellation);
  absl::Status TakeExported(WorkerLink::Reply reply);

  const std::shared_ptr<WorkerLink> link_;
  // Used by Finish and the destructor only.
  DeviceSegment::Facts facts_;
  Reservation charge_;
  bool finished_ = false;
  // A cancelled caller doesn't wait for the worker.
  bool wait_for_free_ = true;

  absl::Mutex mutex_;
  std::vector<uint64_t> copies_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_DEVICE_UPLOAD_H_
