#ifndef WEIGHTD_TESTS_FAKES_FAKE_SEGMENT_H_
#define WEIGHTD_TESTS_FAKES_FAKE_SEGMENT_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/fd.h"
#include "common/gpu_id.h"
#include "daemon/device/budget.h"
#include "daemon/device/gpus.h"

namespace weightd::fakes {

class FakeGpus;

// A segment of FakeGpus. What it exports is a memfd with its bytes, its mark, and its GPU's name.
class FakeSegment final : public device::Segment {
 public:
  FakeSegment(FakeGpus* gpus, int worker, std::string bytes, std::string mark,
              device::Handles handles, bool is_private, device::Reservation reservation);
  ~FakeSegment() override;

  const GpuId& gpu() const override { return gpu_; }
  uint64_t bytes() const override { return allocated_; }
  device::Handles handles() const override { return handles_; }
  bool is_private() const override { return is_private_; }
  bool lost() const override;
  const std::string& legacy_handle() const override { return legacy_handle_; }
  absl::StatusOr<Fd> OpenForClient() override;
  void Drain() override;

  const std::string& memory() const { return bytes_; }

 private:
  FakeGpus& gpus_;
  const GpuId gpu_;
  const int worker_;
  const std::string bytes_;
  const std::string mark_;
  const uint64_t allocated_;
  const device::Handles handles_;
  const bool is_private_;
  std::string legacy_handle_;
  absl::Mutex mutex_;
  device::Reservation reservation_ ABSL_GUARDED_BY(mutex_);
  bool given_away_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> drained_ = false;
};

}  // namespace weightd::fakes

#endif  // WEIGHTD_TESTS_FAKES_FAKE_SEGMENT_H_
