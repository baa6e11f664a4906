#include "daemon/device/budget.h"

#include "absl/strings/str_cat.h"
#include "common/byte_range.h"
#include "common/status.h"

namespace weightd::device {

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    GiveBack();
    budget_ = std::move(other.budget_);
    bytes_ = std::exchange(other.bytes_, 0);
    charge_ = other.charge_;
    allocated_ = other.allocated_;
  }
  return *this;
}

const GpuId& Reservation::gpu() const { return budget_->gpu(); }

void Reservation::Recharge(Charge charge) {
  if (budget_ != nullptr) {
    budget_->Move(bytes_, std::exchange(charge_, charge), charge);
  }
}

void Reservation::MarkAllocated() {
  if (budget_ != nullptr && !std::exchange(allocated_, true)) {
    budget_->MarkAllocated(bytes_);
  }
}

void Reservation::GiveBack() {
  if (budget_ != nullptr) {
    std::exchange(budget_, nullptr)->Release(std::exchange(bytes_, 0), charge_, allocated_);
  }
}

absl::StatusOr<Reservation> Budget::Reserve(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  uint64_t used = 0;
  for (const uint64_t charged : charged_) {
    used += charged;
  }
  if (bytes > budget_) {
    return Error(Reason::kBudgetExceeded,
                 absl::StrCat(bytes, " bytes needed on ", gpu_.ToText(),
                              "; weightd's whole budget there is ", budget_, " bytes"),
                 "raise gpu.budget, or use a GPU with more memory");
  }
  if (AlignUp(bytes, kGranularity) > budget_ - used) {
    return Error(Reason::kBudgetExceeded,
                 absl::StrCat(bytes, " bytes needed on ", gpu_.ToText(), "; of weightd's ", budget_,
                              " bytes there ", charged_[0], " are loading, ", charged_[1],
                              " resident, ", charged_[2], " draining"),
                 "wait for clients to end, evict models from the GPU, or raise gpu.budget");
  }
  const uint64_t whole = AlignUp(bytes, kGranularity);
  charged_[static_cast<size_t>(Charge::kLoading)] += whole;
  unallocated_ += whole;
  return Reservation(shared_from_this(), whole);
}

Usage Budget::usage() const {
  absl::MutexLock lock(&mutex_);
  return {.budget = budget_,
          .resident = charged_[static_cast<size_t>(Charge::kResident)],
          .loading = charged_[static_cast<size_t>(Charge::kLoading)],
          .draining = charged_[static_cast<size_t>(Charge::kDraining)]};
}

uint64_t Budget::unallocated() const {
  absl::MutexLock lock(&mutex_);
  return unallocated_;
}

void Budget::Move(uint64_t bytes, Charge from, Charge to) {
  absl::MutexLock lock(&mutex_);
  charged_[static_cast<size_t>(from)] -= bytes;
  charged_[static_cast<size_t>(to)] += bytes;
}

void Budget::MarkAllocated(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  unallocated_ -= bytes;
}

void Budget::Release(uint64_t bytes, Charge from, bool allocated) {
  absl::MutexLock lock(&mutex_);
  charged_[static_cast<size_t>(from)] -= bytes;
  unallocated_ -= allocated ? 0 : bytes;
}

}  // namespace weightd::device
