#include "daemon/device/device_upload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "daemon/device/runs.h"

namespace weightd::device {
namespace {

uint64_t AllocationOf(uint64_t device_bytes) {
  return AlignUp(std::max<uint64_t>(device_bytes, 1), Budget::kGranularity);
}

absl::Status CheckReserved(uint64_t device_bytes, const Reservation& reservation) {
  if (device_bytes <= reservation.bytes() && reservation.bytes() > 0) {
    return absl::OkStatus();
  }
  return Error(Reason::kInternal, absl::StrCat(device_bytes, " bytes to fill on a GPU, but only ",
                                               reservation.bytes(), " reserved"));
}

absl::Status CheckMark(absl::string_view mark, Handles handles) {
  const bool markable = handles == Handles::kDescriptor && mark.size() == kMarkBytes;
  return mark.empty() || markable ? absl::OkStatus()
                                  : Error(Reason::kInternal, "a segment with half a mark");
}

}  // namespace

DeviceUpload::DeviceUpload(std::shared_ptr<WorkerLink> link, DeviceSegment::Facts facts,
                           Reservation charge)
    : link_(std::move(link)), facts_(std::move(facts)), charge_(std::move(charge)) {}

absl::StatusOr<std::unique_ptr<DeviceUpload>> DeviceUpload::Begin(std::shared_ptr<WorkerLink> link,
                                                                  UploadPlan plan, bool is_private,
                                                                  Cancellation& cancellation) {
  RETURN_IF_ERROR(CheckMark(plan.mark, plan.handles));
  const uint64_t marked_bytes = plan.device_bytes + plan.mark.size();
  RETURN_IF_ERROR(CheckReserved(marked_bytes, plan.reservation));
  const uint64_t bytes = AllocationOf(marked_bytes);
  ASSIGN_OR_RETURN(const Runs runs, Runs::Make(std::move(plan.runs), bytes));
  if (runs.list().size() > kMostRuns) {
    return Error(Reason::kUnsupported, absl::StrCat(runs.list().size(), " tensors in one model"));
  }
  std::vector<Fd> fds(2);
  fds[0] = std::move(plan.source);
  ASSIGN_OR_RETURN(fds[1], WriteRuns(runs.list()));
  DeviceSegment::Facts facts{.gpu = plan.reservation.gpu(),
                             .number = link->NewSegment(),
                             .bytes = bytes,
                             .handles = plan.handles,
                             .is_private = is_private,
                             .legacy_handle = {}};
  Request request{.source_bytes = plan.source_bytes,
                  .runs = runs.list().size(),
                  .pin_source = plan.pin_source ? 1U : 0U};
  SetMark(plan.mark, plan.device_bytes, request);
  return Create(std::move(link), std::move(facts), request, std::move(fds),
                std::move(plan.reservation), cancellation);
}

absl::StatusOr<std::unique_ptr<DeviceUpload>> DeviceUpload::BeginCopyOf(
    std::shared_ptr<WorkerLink> link, const DeviceSegment& copied, uint64_t device_bytes,
    Reservation reservation, Cancellation& cancellation) {
  RETURN_IF_ERROR(CheckReserved(device_bytes, reservation));
  DeviceSegment::Facts facts{.gpu = reservation.gpu(),
                             .number = link->NewSegment(),
                             .bytes = AllocationOf(device_bytes),
                             .is_private = true,
                             .legacy_handle = {}};
  const Request request{.copied = copied.number()};
  return Create(std::move(link), std::move(facts), request, {}, std::move(reservation),
                cancellation);
}

absl::StatusOr<std::unique_ptr<DeviceUpload>> DeviceUpload::Create(
    std::shared_ptr<WorkerLink> link, DeviceSegment::Facts facts, Request request,
    std::vector<Fd> fds, Reservation charge, Cancellation& cancellation) {
  request.type = Request::Type::kCreate;
  request.segment = facts.number;
  request.device_bytes = facts.bytes;
  request.legacy = facts.handles == Handles::kLegacy ? 1 : 0;
  const uint64_t number = link->Send(request, std::move(fds), std::move(charge));
  absl::Status created = link->Await(number, cancellation);
  charge = link->TakeCharge(number);
  link->Forget(number);
  if (!created.ok()) {
    // A create that nobody waits for any more may still succeed.
    link->Free(facts.number, std::move(charge), !cancellation.cancelled());
    return created;
  }
  return std::unique_ptr<DeviceUpload>(
      new DeviceUpload(std::move(link), std::move(facts), std::move(charge)));
}

DeviceUpload::~DeviceUpload() {
  {
    absl::MutexLock lock(&mutex_);
    for (const uint64_t copy : copies_) {
      link_->Forget(copy);
    }
  }
  if (!finished_) {
    link_->Free(facts_.number, std::move(charge_), wait_for_free_);
  }
}

uint64_t DeviceUpload::Copy(ByteRange host, uint64_t source_offset) {
  const uint64_t number = link_->Send({.type = Request::Type::kCopy,
                                       .segment = facts_.number,
                                       .host_begin = host.begin,
                                       .host_end = host.end,
                                       .source_offset = source_offset});
  absl::MutexLock lock(&mutex_);
  copies_.push_back(number);
  return number;
}

absl::Status DeviceUpload::Await(uint64_t copy, Cancellation& cancellation) {
  return link_->Await(copy, cancellation);
}

absl::StatusOr<std::shared_ptr<Segment>> DeviceUpload::Finish(Cancellation& cancellation) {
  const uint64_t number = link_->Send({.type = Request::Type::kFinish, .segment = facts_.number});
  if (absl::Status done = link_->Await(number, cancellation); !done.ok()) {
    wait_for_free_ = !cancellation.cancelled();
    link_->Forget(number);
    return done;
  }
  RETURN_IF_ERROR(TakeExported(link_->TakeReply(number)));
  finished_ = true;
  return std::make_shared<DeviceSegment>(link_, facts_, std::move(charge_));
}

absl::Status DeviceUpload::TakeExported(WorkerLink::Reply reply) {
  if (facts_.handles == Handles::kLegacy) {
    if (reply.answer.has_legacy_handle == 0) {
      return Error(Reason::kInternal, "the GPU's worker gave no legacy handle");
    }
    facts_.legacy_handle.assign(reply.answer.legacy_handle, sizeof(reply.answer.legacy_handle));
    return absl::OkStatus();
  }
  if (!reply.fd.valid()) {
    return Error(Reason::kInternal, "the GPU's worker gave no descriptor");
  }
  link_->Keep(facts_.number, std::move(reply.fd));
  return facts_.is_private ? link_->Disown(facts_.number) : absl::OkStatus();
}

}  // namespace weightd::device
