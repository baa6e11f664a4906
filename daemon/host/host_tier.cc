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

// Smaller segments would waste what was made ready for models.
constexpr uint64_t kLeastForReady = 64 << 20;
// What the machine should keep for others.
constexpr uint64_t kKeptFree = 1 << 30;

}  // namespace

Reservation::Reservation(std::shared_ptr<HostTier> tier, uint64_t bytes)
    : tier_(std::move(tier)), bytes_(bytes) {}

Reservation::Reservation(Reservation&& other) noexcept
    : tier_(std::move(other.tier_)),
      bytes_(std::exchange(other.bytes_, 0)),
      charge_(other.charge_),
      populated_(std::exchange(other.populated_, 0)),
      head_start_(std::exchange(other.head_start_, 0)),
      ready_(std::move(other.ready_)) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    GiveBack();
    tier_ = std::move(other.tier_);
    bytes_ = std::exchange(other.bytes_, 0);
    charge_ = other.charge_;
    populated_ = std::exchange(other.populated_, 0);
    head_start_ = std::exchange(other.head_start_, 0);
    ready_ = std::move(other.ready_);
  }
  return *this;
}

void Reservation::GiveBack() {
  ready_.reset();  // frees the memory before its charge goes
  if (tier_ != nullptr) {
    tier_->Release(*this);
    tier_.reset();
    bytes_ = 0;
    populated_ = 0;
  }
}

Reservation Reservation::Split(uint64_t bytes) {
  assert(bytes <= bytes_ && bytes % kPageBytes == 0 && populated_ == head_start_);
  bytes_ -= bytes;
  if (tier_ != nullptr) {
    tier_->LimitPopulated(*this);
  }
  return Reservation(tier_, bytes);
}

void Reservation::Settle() {
  if (tier_ != nullptr) {
    tier_->Recharge(*this, Charge::kResident);
    tier_->TakeBack(std::exchange(ready_, nullptr), bytes_);
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

absl::StatusOr<Reservation> HostTier::ReserveFilled(uint64_t bytes) {
  const uint64_t wanted = AlignUp(bytes, kPageBytes);
  absl::MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckBudget(wanted));
  return ChargeFilled(wanted);
}

Reservation HostTier::ReserveHeld(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  return ChargeFilled(AlignUp(bytes, kPageBytes));
}

Reservation HostTier::ChargeFilled(uint64_t bytes) {
  Reservation reservation(shared_from_this(), bytes);
  reservation.charge_ = Charge::kResident;
  Charged(Charge::kResident) += bytes;
  return reservation;
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
  const bool takes_ready = ready_ != nullptr && wanted >= kLeastForReady;
  ASSIGN_OR_RETURN(uint64_t available, options_.available_memory());
  if (takes_ready) {
    available += std::min(ready_->present(), wanted);
  }
  if (ready_ != nullptr && (available < promised || available - promised < wanted)) {
    // More than it can give by being taken: all of it.
    SetReady(nullptr);
    ASSIGN_OR_RETURN(available, options_.available_memory());
  }
  if (available < promised || available - promised < wanted) {
    return Error(
        Reason::kHostMemoryShort,
        absl::StrCat("needs ", Human(wanted), " of host memory; the machine or its cgroup has ",
                     Human(available), " left, of which running loads will take ", Human(promised)),
        "end processes that hold memory (clients of an earlier daemon may still map its "
        "models), or raise the cgroup's limit");
  }
  {
    absl::MutexLock lock(&mutex_);
    Charged(Charge::kLoading) += wanted;
  }
  Reservation reservation(shared_from_this(), wanted);
  GiveReady(reservation);
  if (ready_ != nullptr && !ReadyFits(usage())) {
    SetReady(nullptr);
  }
  return reservation;
}

void HostTier::GiveReady(Reservation& reservation) {
  if (ready_ == nullptr || reservation.bytes_ < kLeastForReady) {
    return;
  }
  std::unique_ptr<ReadyMemory> ready = std::move(ready_);
  SetReady(nullptr);
  // What it doesn't need is nobody's: freed before anything else is reserved.
  if (ready->bytes() > reservation.bytes_ && !ready->Shrink(reservation.bytes_).ok()) {
    return;
  }
  CountPopulated(reservation, ready->present());
  reservation.head_start_ = ready->present();
  reservation.ready_ = std::move(ready);
}

bool HostTier::ReadyFits(const HostUsage& usage) const {
  const uint64_t taken = usage.resident + usage.loading + usage.draining;
  return taken <= usage.budget && options_.ready <= usage.budget - taken;
}

void HostTier::SetReady(std::unique_ptr<ReadyMemory> ready) {
  ready_ = std::move(ready);
  absl::MutexLock lock(&mutex_);
  ready_bytes_ = ready_ == nullptr ? 0 : ready_->present();
}

void HostTier::TakeBack(std::unique_ptr<ReadyMemory> ready, uint64_t bytes) {
  absl::MutexLock reserving(&reserving_);
  if (ready == nullptr || ready_ != nullptr || !ReadyFits(usage())) {
    return;
  }
  // It was counted as part of what the reservation gets.
  const absl::StatusOr<uint64_t> available = options_.available_memory();
  if (available.ok() && *available >= bytes + kKeptFree) {
    SetReady(std::move(ready));
  }
}

bool HostTier::PrepareReady() {
  absl::MutexLock reserving(&reserving_);
  const absl::StatusOr<uint64_t> available = options_.available_memory();
  if (!available.ok()) {
    return false;
  }
  if (ready_ != nullptr && *available < kKeptFree / 2) {
    SetReady(nullptr);  // others need it
    return false;
  }
  const HostUsage usage = this->usage();
  if (usage.ready >= options_.ready || usage.loading > 0 || !ReadyFits(usage) ||
      *available < options_.ready - usage.ready + kKeptFree) {
    return false;
  }
  std::unique_ptr<ReadyMemory> ready = std::move(ready_);
  if (ready == nullptr) {
    absl::StatusOr<ReadyMemory> made = ReadyMemory::Create(options_.ready, options_.huge_pages);
    if (!made.ok()) {
      return false;
    }
    ready = std::make_unique<ReadyMemory>(*std::move(made));
  }
  const bool more = ready->Step().ok();
  SetReady(std::move(ready));
  return more;
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
          .draining = charged_[static_cast<size_t>(Charge::kDraining)],
          .ready = ready_bytes_};
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
    draining.tied.reset();
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
  RechargeLocked(reservation, charge);
}

void HostTier::RechargeLocked(Reservation& reservation, Charge charge) {
  Charged(reservation.charge_) -= reservation.bytes_;
  populated_ -= std::exchange(reservation.populated_, 0);
  reservation.head_start_ = 0;
  reservation.charge_ = charge;
  Charged(charge) += reservation.bytes_;
}

void HostTier::CountPopulated(Reservation& reservation, uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  const uint64_t known = std::min(bytes, reservation.head_start_);
  reservation.head_start_ -= known;
  const uint64_t added = std::min(bytes - known, reservation.bytes_ - reservation.populated_);
  reservation.populated_ += added;
  populated_ += added;
}

void HostTier::LimitPopulated(Reservation& reservation) {
  absl::MutexLock lock(&mutex_);
  const uint64_t populated = std::min(reservation.populated_, reservation.bytes_);
  populated_ -= reservation.populated_ - populated;
  reservation.populated_ = populated;
  reservation.head_start_ = std::min(reservation.head_start_, populated);
}

void HostTier::Retire(Draining dropped, Reservation reservation) {
  if (!HeldByOthers(dropped.probe)) {
    dropped.tied.reset();
    dropped.probe.Reset();  // frees the memory before its charge goes
    return;
  }
  absl::MutexLock lock(&mutex_);
  RechargeLocked(reservation, Charge::kDraining);
  // The list keeps the charge from here on: a reservation in it would keep the tier alive for ever.
  reservation.tier_.reset();
  draining_.push_back(std::move(dropped));
}

}  // namespace weightd::host
