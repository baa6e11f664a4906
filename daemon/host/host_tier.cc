#include "daemon/host/host_tier.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/byte_range.h"
#include "common/status.h"
#include "daemon/host/holders.h"

namespace weightd::host {
namespace {

std::string Human(uint64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

}  // namespace

Reservation::Reservation(std::shared_ptr<HostTier> tier, uint64_t bytes)
    : tier_(std::move(tier)), bytes_(bytes) {}

Reservation::Reservation(Reservation&& other) noexcept
    : tier_(std::move(other.tier_)),
      bytes_(std::exchange(other.bytes_, 0)),
      charge_(other.charge_),
      populated_(std::exchange(other.populated_, 0)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    GiveBack();
    tier_ = std::move(other.tier_);
    bytes_ = std::exchange(other.bytes_, 0);
    charge_ = other.charge_;
    populated_ = std::exchange(other.populated_, 0);
  }
  return *this;
}

void Reservation::GiveBack() {
  if (tier_ != nullptr) {
    tier_->Release(*this);
    tier_.reset();
    bytes_ = 0;
    populated_ = 0;
  }
}

Reservation Reservation::Split(uint64_t bytes) {
  assert(bytes <= bytes_ && bytes % kPageBytes == 0 && populated_ == 0);
  bytes_ -= bytes;
  return Reservation(tier_, bytes);
}

void Reservation::Settle() {
  if (tier_ != nullptr) {
    tier_->Recharge(*this, Charge::kResident);
  }
}

HostTier::HostTier(HostTierOptions options) : options_(std::move(options)) {}

absl::StatusOr<Reservation> HostTier::Reserve(uint64_t bytes) {
  if (bytes > std::numeric_limits<int64_t>::max()) {
    return Error(
        Reason::kBudgetExceeded,
        absl::StrCat("needs ", Human(bytes), " of host memory: more than any machine has"));
  }
  const uint64_t wanted = AlignUp(bytes, kPageBytes);
  absl::StatusOr<Reservation> reserved = TryReserve(wanted);
  if (reserved.ok()) {
    return reserved;
  }
  CollectDrained();
  return TryReserve(wanted);
}

absl::StatusOr<Reservation> HostTier::TryReserve(uint64_t wanted) {
  absl::MutexLock reserving(&reserving_);
  uint64_t promised = 0;
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(CheckBudget(wanted));
    // Loads that run fill these; until then MemAvailable still shows them as free.
    promised = Charged(Charge::kLoading) - populated_;
  }
  ASSIGN_OR_RETURN(const uint64_t available, options_.available_memory());
  if (available < promised || available - promised < wanted) {
    return Error(
        Reason::kHostMemoryShort,
        absl::StrCat("needs ", Human(wanted), " of host memory; the machine or its cgroup has ",
                     Human(available), " left, of which running loads will take ", Human(promised)),
        "end processes that hold memory (clients of an earlier daemon may still map its "
        "models), or raise the cgroup's limit");
  }
  absl::MutexLock lock(&mutex_);
  Charged(Charge::kLoading) += wanted;
  return Reservation(shared_from_this(), wanted);
}

absl::Status HostTier::CheckBudget(uint64_t bytes) const {
  const HostUsage usage = UsageLocked();
  const uint64_t taken = usage.resident + usage.loading + usage.draining;
  if (taken <= usage.budget && bytes <= usage.budget - taken) {
    return absl::OkStatus();
  }
  if (bytes > usage.budget) {
    return Error(Reason::kBudgetExceeded,
                 absl::StrCat("needs ", Human(bytes), " of host memory; the whole budget is ",
                              Human(usage.budget)),
                 "raise the host budget in the config");
  }
  return Error(
      Reason::kBudgetExceeded,
      absl::StrCat("needs ", Human(bytes), " of host memory; of the budget of ",
                   Human(usage.budget), " are taken: ", Human(usage.resident),
                   " by resident models, ", Human(usage.loading), " by running loads, ",
                   Human(usage.draining), " by evicted models that clients still map"),
      usage.draining >= bytes - (usage.budget - taken)
          ? "let clients unmap evicted models (weightctl status shows whose they are)"
          : "release or evict models (weightctl ls), or raise the host budget in the config");
}

HostUsage HostTier::UsageLocked() const {
  return {.budget = options_.budget,
          .resident = charged_[static_cast<size_t>(Charge::kResident)],
          .loading = charged_[static_cast<size_t>(Charge::kLoading)],
          .draining = charged_[static_cast<size_t>(Charge::kDraining)]};
}

uint64_t& HostTier::Charged(Charge charge) { return charged_[static_cast<size_t>(charge)]; }

HostUsage HostTier::usage() const {
  absl::MutexLock lock(&mutex_);
  return UsageLocked();
}

std::vector<DrainingSegment> HostTier::draining() const {
  absl::MutexLock lock(&mutex_);
  std::vector<DrainingSegment> segments;
  segments.reserve(draining_.size());
  for (const Draining& draining : draining_) {
    segments.push_back(draining.segment);
  }
  return segments;
}

std::vector<DrainingSegment> HostTier::CollectDrained() {
  absl::MutexLock collecting(&collecting_);
  std::vector<Draining> drained;
  {
    absl::MutexLock lock(&mutex_);
    const auto first_drained =
        std::partition(draining_.begin(), draining_.end(),
                       [](const Draining& draining) { return HeldByOthers(draining.probe); });
    drained.assign(std::make_move_iterator(first_drained),
                   std::make_move_iterator(draining_.end()));
    draining_.erase(first_drained, draining_.end());
  }
  // Without the lock: closing the last descriptor frees the memory, seconds for a large model of
  // small pages.
  std::vector<DrainingSegment> segments;
  segments.reserve(drained.size());
  for (Draining& draining : drained) {
    draining.probe.Reset();
    absl::MutexLock lock(&mutex_);
    Charged(Charge::kDraining) -= draining.segment.bytes;
    segments.push_back(std::move(draining.segment));
  }
  return segments;
}

void HostTier::Release(const Reservation& reservation) {
  absl::MutexLock lock(&mutex_);
  Charged(reservation.charge_) -= reservation.bytes_;
  populated_ -= reservation.populated_;
}

void HostTier::Recharge(Reservation& reservation, Charge charge) {
  absl::MutexLock lock(&mutex_);
  Charged(reservation.charge_) -= reservation.bytes_;
  populated_ -= std::exchange(reservation.populated_, 0);
  reservation.charge_ = charge;
  Charged(charge) += reservation.bytes_;
}

void HostTier::CountPopulated(Reservation& reservation, uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  const uint64_t added = std::min(bytes, reservation.bytes_ - reservation.populated_);
  reservation.populated_ += added;
  populated_ += added;
}

void HostTier::Retire(DrainingSegment segment, Fd probe, Reservation reservation) {
  if (!HeldByOthers(probe)) {
    probe.Reset();  // frees the memory before its charge goes
    return;
  }
  Recharge(reservation, Charge::kDraining);
  // The list keeps the charge from here on: a reservation in it would keep the tier alive for ever.
  reservation.tier_.reset();
  absl::MutexLock lock(&mutex_);
  draining_.push_back({std::move(segment), std::move(probe)});
}

}  // namespace weightd::host
