#include "daemon/device/device_segment.h"

#include <utility>

#include "common/status.h"

namespace weightd::device {

DeviceSegment::DeviceSegment(std::shared_ptr<WorkerLink> link, Facts facts, Reservation charge)
    : link_(std::move(link)), facts_(std::move(facts)), charge_(std::move(charge)) {
  charge_.Recharge(Charge::kResident);
}

DeviceSegment::~DeviceSegment() {
  if (facts_.is_private) {
    link_->TakeKept(facts_.number);
  } else {
    link_->Free(facts_.number, std::move(charge_), true);
  }
}

absl::StatusOr<Fd> DeviceSegment::OpenForClient() {
  if (!facts_.is_private) {
    return link_->Duplicate(facts_.number);
  }
  absl::MutexLock lock(&mutex_);
  Fd taken = link_->TakeKept(facts_.number);
  if (!taken.valid()) {
    RETURN_IF_ERROR(link_->why_ended());
    return Error(Reason::kInvalidArgument, "a private copy is handed out only once",
                 "ask for another one");
  }
  charge_.GiveBack();
  return taken;
}

void DeviceSegment::Drain() {
  absl::MutexLock lock(&mutex_);
  charge_.Recharge(Charge::kDraining);
}

}  // namespace weightd::device
