#include "daemon/device/device_import.h"

#include <utility>
#include <vector>

#include "common/status.h"
#include "daemon/device/device_segment.h"
#include "daemon/device/worker_messages.h"

namespace weightd::device {

absl::StatusOr<std::shared_ptr<Segment>> ImportSegment(std::shared_ptr<WorkerLink> link,
                                                       ImportPlan& plan,
                                                       Cancellation& cancellation) {
  if (plan.mark.size() != kMarkBytes || plan.reservation.bytes() < plan.device_bytes + kMarkBytes) {
    return Error(Reason::kInternal, "a GPU segment to import without a mark, or without room");
  }
  DeviceSegment::Facts facts{.gpu = plan.reservation.gpu(),
                             .number = link->NewSegment(),
                             .bytes = plan.reservation.bytes(),
                             .legacy_handle = {}};
  Request request{
      .type = Request::Type::kImport, .segment = facts.number, .device_bytes = facts.bytes};
  SetMark(plan.mark, plan.device_bytes, request);
  std::vector<Fd> fds(1);
  ASSIGN_OR_RETURN(fds[0], plan.exported.Duplicate());
  ASSIGN_OR_RETURN(Fd kept, plan.exported.Duplicate());
  const uint64_t number = link->Send(request, std::move(fds), std::move(plan.reservation));
  absl::Status imported = link->Await(number, cancellation);
  Reservation charge = link->TakeCharge(number);
  link->Forget(number);
  if (!imported.ok() && cancellation.cancelled()) {
    // It may still succeed: what it takes then is charged until it is freed.
    link->Free(facts.number, std::move(charge), /*wait=*/false);
    return imported;
  }
  if (!imported.ok()) {
    // A worker keeps nothing of what it couldn't import.
    plan.reservation = std::move(charge);
    return imported;
  }
  link->Keep(facts.number, std::move(kept));
  return std::make_shared<DeviceSegment>(std::move(link), std::move(facts), std::move(charge));
}

}  // namespace weightd::device
