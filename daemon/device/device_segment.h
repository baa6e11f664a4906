#ifndef WEIGHTD_DAEMON_DEVICE_DEVICE_SEGMENT_H_
#define WEIGHTD_DAEMON_DEVICE_DEVICE_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "daemon/device/budget.h"
#include "daemon/device/gpus.h"
#include "daemon/device/worker_link.h"

namespace weightd::device {

// A segment that a worker has allocated, and holds for as long as this lives. A private one is held
// by its descriptor alone, which the link keeps until a client gets it. Thread-safe.
class DeviceSegment : public Segment {
 public:
  struct Facts {
    GpuId gpu;
    // As the worker knows it.
    uint64_t number = 0;
    uint64_t bytes = 0;
    Handles handles = Handles::kDescriptor;
    bool is_private = false;
    std::string legacy_handle;
  };

  // `charge` is what it is charged with from here on.
  DeviceSegment(std::shared_ptr<WorkerLink> link, Facts facts, Reservation charge);
  ~DeviceSegment() override;

  const GpuId& gpu() const override { return facts_.gpu; }
  uint64_t bytes() const override { return facts_.bytes; }
  Handles handles() const override { return facts_.handles; }
  bool is_private() const override { return facts_.is_private; }
  absl::StatusOr<Fd> OpenForClient() override ABSL_LOCKS_EXCLUDED(mutex_);
  const std::string& legacy_handle() const override { return facts_.legacy_handle; }
  bool lost() const override { return link_->ended(); }
  void Drain() override ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t number() const { return facts_.number; }
  const WorkerLink& link() const { return *link_; }

 private:
  const std::shared_ptr<WorkerLink> link_;
  const Facts facts_;
  absl::Mutex mutex_;
  Reservation charge_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_DEVICE_SEGMENT_H_
