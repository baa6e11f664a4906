#include "daemon/device/device_import.h"

#include <utility>
#include <vector>

#include "common/status.h"
#include "daemon/device/device_segment.h"
#include "daemon/device/worker_messages.h"

namespace weightd::device {

absl::StatusOr<std::shared_ptr<Segment>> ImportSegment(std::shared_ptr<WorkerLink> link,
                                                       ImportPlan plan,
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
  const uint64_t number = link->Send(request, std::move(fds), std::move(plan.reservation));
  absl::Status imported = link->Await(number, cancellation);
  Reservation charge = link->TakeCharge(number);
  link->Forget(number);
  if (!imported.ok()) {
    // One that nobody waits for any more may still succeed.
    link->Free(facts.number, std::move(charge), !cancellation.cancelled());
    return imported;
  }
  link->Keep(facts.number, std::move(plan.exported));
  return std::make_shared<DeviceSegment>(std::move(link), std::move(facts), std::move(charge));
}

}  // namespace weightd::device
