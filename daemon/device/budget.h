#ifndef WEIGHTD_DAEMON_DEVICE_BUDGET_H_
#define WEIGHTD_DAEMON_DEVICE_BUDGET_H_

#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/gpu_id.h"

namespace weightd::device {

// What a reservation's bytes count as.
enum class Charge : uint8_t { kLoading, kResident, kDraining };

// Bytes; resident + loading + draining never exceeds budget.
struct Usage {
  uint64_t budget = 0;
  uint64_t resident = 0;
  uint64_t loading = 0;
  uint64_t draining = 0;

  uint64_t used() const { return resident + loading + draining; }
};

class Budget;

// Bytes taken out of a GPU's budget, given back when this dies. Move-only.
class Reservation {
 public:
  Reservation() = default;
  ~Reservation() { GiveBack(); }
  Reservation(Reservation&& other) noexcept { *this = std::move(other); }
  Reservation& operator=(Reservation&& other) noexcept;

  const GpuId& gpu() const;
  uint64_t bytes() const { return bytes_; }
  // From here on its bytes count as that. Not from several threads at once.
  void Recharge(Charge charge);
  // The GPU has given the memory: its free bytes no longer include these. Not from several threads
  // at once.
  void MarkAllocated();
  void GiveBack();

 private:
  friend class Budget;
  Reservation(std::shared_ptr<Budget> budget, uint64_t bytes)
      : budget_(std::move(budget)), bytes_(bytes) {}

  std::shared_ptr<Budget> budget_;
  uint64_t bytes_ = 0;
  Charge charge_ = Charge::kLoading;
  bool allocated_ = false;
};

// How many bytes of one GPU are weightd's, and what they are used for. Counts only: whether the GPU
// has that memory is the worker's to say. Thread-safe. Made with std::make_shared: reservations
// keep it alive.
class Budget : public std::enable_shared_from_this<Budget> {
 public:
  // Allocations are multiples of this (cuMemGetAllocationGranularity says 2 MiB on all GPUs so far;
  // the worker checks that it divides ours).
  static constexpr uint64_t kGranularity = 2 << 20;

  Budget(const GpuId& gpu, uint64_t bytes) : gpu_(gpu), budget_(bytes) {}

  // Rounded up to kGranularity. kBudgetExceeded when there is no room; says what holds it.
  absl::StatusOr<Reservation> Reserve(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  Usage usage() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of all reservations, what the GPU is still to give.
  uint64_t unallocated() const ABSL_LOCKS_EXCLUDED(mutex_);
  const GpuId& gpu() const { return gpu_; }

 private:
  friend class Reservation;
  void Move(uint64_t bytes, Charge from, Charge to) ABSL_LOCKS_EXCLUDED(mutex_);
  void MarkAllocated(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(uint64_t bytes, Charge from, bool allocated) ABSL_LOCKS_EXCLUDED(mutex_);

  const GpuId gpu_;
  const uint64_t budget_;
  mutable absl::Mutex mutex_;
  // Indexed by Charge.
  std::array<uint64_t, 3> charged_ ABSL_GUARDED_BY(mutex_) = {};
  uint64_t unallocated_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace weightd::device

#endif  // WEIGHTD_DAEMON_DEVICE_BUDGET_H_
